"""The command line as an operator's shell runs it, with settings of its own."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.services import agents
from federation.transaction import Transactions
from tests import forks

WITHIN_S = 120.0


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory that is not there yet, where root's PostgreSQL could enter."""
    with tempfile.TemporaryDirectory(prefix="federation-cli-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "data"


@pytest.fixture
def surroundings(data_dir: Path) -> dict[str, str]:
    """The environment of a shell in which no setting but the data directory is made."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_") or name == "FEDERATION_CACHE_DIR"}
    return kept | {"FEDERATION_DATA_DIR": str(data_dir)}


@pytest.fixture
def federation(surroundings: dict[str, str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run `federation` with these words to its end, its output in pipes; in no repository, unless `folder` is in one."""

    def run(*words: str, text: str = "", folder: Path | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
        return forks.run(
            "federation.cli.main", *words, cwd=folder or Path(tempfile.gettempdir()), env=surroundings | variables, text=text, timeout_s=WITHIN_S
        )

    return run


@pytest.fixture
def acting(
    federation: Callable[..., Any], surroundings: dict[str, str], postgres: Any, activemq: Any, database: str, transactions: Transactions
) -> Callable[..., Any]:
    """Runs a command as somebody; as nobody it is the operator's."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    with transactions.begin("test:setup") as session:
        tokens = {name: agents.issue_token(session, name) for name in ("ada", "bob", "dan")} | {"pia": agents.add(session, "pia", "human")}

    def run(who: str | None, *words: str, text: str = "") -> Any:
        return federation(*words, text=text, **({"FEDERATION_TOKEN": tokens[who]} if who else {}))

    return run
