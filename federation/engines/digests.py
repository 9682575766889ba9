"""Which files of models are known, by SHA-256: those that ship with the program and those that an operator added; refuses all others unread.

A digest is taken anew at each load (0.08 s for 90 MB with the processor's own instructions, about 0.3 s without) and never remembered by the
file's time or size: who can change a file can set these back. A file that is exchanged between the look and the load is not seen; who can do
that can change the program too.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from federation.errors import NotFound, SettingsError, WeightsChanged, WeightsUnknown
from federation.settings import settings

ADDED: Final = "models.json"
_SHIPPED: Final = Path(__file__).with_name("digests.json")
_AT_ONCE: Final = 2**20

# Told after each piece of a file: how many bytes of how many are read.
Progress = Callable[[Path, int, int], None]


def _silent(path: Path, done: int, total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Known:
    """A model whose files are known: each file's SHA-256 by its path below `root`; `root` is None where a package says where it lies."""

    name: str
    root: Path | None
    files: Mapping[str, str]

    @property
    def ships(self) -> bool:
        """The digests came with the program."""
        return self.root is None


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of weights that was looked at and is known; `digest` is its SHA-256."""

    path: Path
    digest: str


def shipped() -> dict[str, Known]:
    """Return the models whose digests ship with the program."""
    return {name: Known(name, None, files) for name, files in _shipped().items()}


@cache
def _shipped() -> dict[str, dict[str, str]]:
    content: dict[str, dict[str, str]] = json.loads(_SHIPPED.read_text("utf-8"))
    return content


def file_of_added() -> Path:
    """Return where the digests are that the operator added."""
    return settings().data_dir / ADDED


def added() -> dict[str, Known]:
    """Return the models that the operator added. Raises SettingsError for a file that cannot be read."""
    path = file_of_added()
    try:
        content = json.loads(path.read_text("utf-8"))
        return {name: Known(name, Path(model["root"]), dict(model["files"])) for name, model in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path} does not tell the digests of models ({error!r}); correct it, or remove it and add them again") from error


def described(known: Mapping[str, Known]) -> dict[str, object]:
    """Return the content of the file of added models."""
    return {name: {"root": str(model.root), "files": dict(model.files)} for name, model in sorted(known.items())}


def measured(name: str, root: Path, progress: Progress = _silent) -> Known:
    """Return a model as it lies there now: a file, or all files of a folder. Raises NotFound where there is none."""
    files = dict(_digests(root, progress))
    if not files:
        raise NotFound("file", str(root))
    return Known(name, root, files)


def differences(name: str, root: Path, progress: Progress = _silent) -> list[WeightsChanged]:
    """Return an error for each file of a model that differs from what is known, is not there, or is there and not known.

    Raises WeightsUnknown for a model that nobody has vouched for.
    """
    return _differences(name, root, dict(_digests(root, progress)))


def check(name: str, root: Path, weights: Path) -> Weights:
    """Return the weights of a model whose every file is known: `root` is the file of weights, or the folder that its runner reads.

    Raises WeightsChanged for the first file that differs, WeightsUnknown for a model that nobody has vouched for.
    """
    found = dict(_digests(root, _silent))
    for difference in _differences(name, root, found):
        raise difference
    return Weights(weights, found[_place(weights, root)])


def checked(name: str, root: Path) -> str:
    """Return the digest of a model whose every file is known: that of its file, of a folder that of the lines that `sha256sum` prints of its files.

    Raises WeightsChanged for the first file that differs, WeightsUnknown for a model that nobody has vouched for, NotFound where there is no file.
    """
    found = dict(_digests(root, _silent))
    if not found:
        raise NotFound("file", str(root))
    for difference in _differences(name, root, found):
        raise difference
    if root.is_file():
        return found[root.name]
    return hashlib.sha256("".join(f"{digest}  {place}\n" for place, digest in sorted(found.items())).encode()).hexdigest()


def sha256_of(path: Path, progress: Progress = _silent) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_AT_ONCE):
            digest.update(piece)
            done += len(piece)
            progress(path, done, total)
    return digest.hexdigest()


def _digests(root: Path, progress: Progress) -> Iterator[tuple[str, str]]:
    # No runner reads what begins with a point, and tools leave such files.
    paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")) if root.is_dir() else [root]
    yield from ((_place(path, root), sha256_of(path, progress)) for path in paths if path.is_file())


def _place(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def _differences(name: str, root: Path, found: Mapping[str, str]) -> list[WeightsChanged]:
    # What the operator vouched for counts beside what ships: that is how one goes on after changing a model knowingly.
    vouched = [model for source in (shipped(), added()) if (model := source.get(name)) is not None]
    if not vouched:
        raise WeightsUnknown(name, root)
    complete = any(model.files.keys() <= found.keys() for model in vouched)
    wrong = []
    # The small files too: they say which code and which words the weights are used with, and one more of them may be read as well.
    for place in sorted(found.keys() | (set() if complete else vouched[0].files.keys())):
        expected = [model.files[place] for model in vouched if place in model.files]
        if found.get(place) not in expected:
            path = root if root.is_file() else root / place
            wrong.append(WeightsChanged(name, path, expected=expected[0] if expected else None, found=found.get(place), root=root))
    return wrong
