"""The fencing tokens of claims, kept beside the index of a repository for its pre-commit hook; knows which were won, and not which still count."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from federation.cli import repository
from federation.errors import SettingsError

# Of this working tree alone: in another one of the same repository somebody else may work.
FILE = "federation-claims.json"


def kept() -> dict[str, int]:
    """Return the tokens that this working tree knows, by resource. Raises SettingsError for a file that does not hold any, and as git does."""
    return _read(repository.own_file(FILE))


def keep(resource: str, token: int) -> None:
    """Know the token of a claim from now on. Raises as `kept`."""
    with _changing() as tokens:
        tokens[resource] = token


def forget(resource: str) -> bool:
    """Know no token of a resource any more; False if none was known. Raises as `kept`."""
    with _changing() as tokens:
        return tokens.pop(resource, None) is not None


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); remove it, and claim again") from error
    if not isinstance(found, dict) or not all(isinstance(token, int) for token in found.values()):
        raise SettingsError(f"{path}: does not hold tokens by resource; remove it, and claim again")
    return found


@contextmanager
def _changing() -> Iterator[dict[str, int]]:
    path = repository.own_file(FILE)
    try:
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = _read(path)
            yield tokens
            unready = path.with_suffix(".tmp")
            with open(os.open(unready, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(tokens, file, indent=2)
            unready.replace(path)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error.strerror}; the claim stands, and this hook does not know of it") from error
