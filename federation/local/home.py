"""The data directory: where each local thing lies in it; removes only what we made."""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.errors import LocalServiceError, SettingsError

_MARK = ".made-by-federation"
# What the program makes in the data directory; `vectors`, `artifacts`, `settings.json` and `models.json` may be there before the first `federation
# up`: a node's worker or a command makes the first two, a person may write the others or have them made.
_OURS = (
    *(
        "settings.json",
        "secrets.json",
        "run",
        "logs",
        "postgres",
        "activemq",
        "vectors",
        "seals",
        "keys",
        "artifacts",
        "demo",
        "models.json",
        "models",
    ),
    *("tls", "nodes"),
)
_FIRST_MADE_BY_UP = ("secrets.json", "run", "logs", "postgres", "activemq", "demo")
_VARIABLE = "FEDERATION_DATA_DIR"
# The disk, or the share of it that this user may fill.
FULL = (errno.ENOSPC, errno.EDQUOT)
_LOG_LIMIT = 10 * 1024 * 1024


@dataclass(frozen=True)
class Home:
    """The data directory of one federation."""

    data_dir: Path

    @property
    def settings_file(self) -> Path:
        return self.data_dir / "settings.json"

    @property
    def secrets_file(self) -> Path:
        return self.data_dir / "secrets.json"

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def state_file(self) -> Path:
        return self.run_dir / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.run_dir / "lock"

    @property
    def tls_dir(self) -> Path:
        return self.data_dir / "tls"

    @property
    def nodes_dir(self) -> Path:
        return self.data_dir / "nodes"

    def log(self, part: str) -> Path:
        """Return the path of a part's log."""
        return self.data_dir / "logs" / f"{part}.log"

    def create(self) -> None:
        """Make the folders, closed to others but for passing through, which PostgreSQL's user needs under root.

        Raises SettingsError when the data directory cannot be made or holds things of others that have our names, LocalServiceError for a full disk.
        """
        try:
            if not self._is_marked():
                self._adopt()
            for folder in (self.run_dir, self.data_dir / "logs"):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            if error.errno in FULL:
                raise LocalServiceError(f"{self.data_dir}: {error.strerror}; free some space, or set {_VARIABLE} to a larger disk") from error
            raise SettingsError(f"{_VARIABLE}: got {str(self.data_dir)!r}, wants a folder that this user can write ({error})") from error

    def _adopt(self) -> None:
        fresh = not self.data_dir.exists() or not any(self.data_dir.iterdir())
        theirs = [name for name in _FIRST_MADE_BY_UP if (self.data_dir / name).exists()]
        if theirs:
            # Purging would remove them.
            raise SettingsError(
                f"{_VARIABLE}: got {str(self.data_dir)!r}, which holds {', '.join(theirs)} that this program did not make; wants a folder of its own"
            )
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if fresh:
            self.data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
        # First of all, so that nothing of ours is ever in a folder without the mark.
        (self.data_dir / _MARK).touch()

    def _is_marked(self) -> bool:
        return (self.data_dir / _MARK).exists()

    def rotate(self, part: str) -> None:
        """Keep a part's log below a limit: its text moves to `<part>.log.1`, and the running process goes on in the emptied file."""
        log = self.log(part)
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)

    def purge(self) -> list[Path]:
        """Remove what was made here, and the data directory when nothing else is in it; return what was left because it is not ours."""
        if not self.data_dir.exists():
            return []
        if self._is_marked():
            drafts = (path for name in _OURS for path in self.data_dir.glob(f"{name}.*") if path.suffix[1:].isdecimal())
            for path in (*(self.data_dir / name for name in _OURS), *drafts):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            # Last of all, so that an interrupted purge can be repeated.
            (self.data_dir / _MARK).unlink()
        left = sorted(self.data_dir.iterdir())
        if not left and not self.data_dir.is_symlink():
            self.data_dir.rmdir()
        return left


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of JSON; empty when there is no file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LocalServiceError(f"{path} is not JSON ({error}); correct it or remove it") from error
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the object in one step, readable by this user alone."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(content, indent=2) + "\n")
        draft.replace(path)
    except OSError:
        # Half a file on a full disk helps nobody.
        draft.unlink(missing_ok=True)
        raise
