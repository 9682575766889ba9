"""The data directory: where each local thing lies in it; removes only what we made."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.errors import LocalServiceError

_MARK = ".made-by-federation"
_OURS = ("settings.json", "secrets.json", "run", "logs", "postgres", "activemq", "vectors", "demo")
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

    def log(self, part: str) -> Path:
        """Return the path of a part's log."""
        return self.data_dir / "logs" / f"{part}.log"

    def create(self) -> None:
        """Make the folders, closed to others but for passing through, which PostgreSQL's user needs under root.

        Raises LocalServiceError when the user may not write there.
        """
        try:
            fresh = not self.data_dir.exists() or not any(self.data_dir.iterdir())
            for folder in (self.data_dir, self.run_dir, self.data_dir / "logs"):
                folder.mkdir(parents=True, exist_ok=True)
            if fresh:
                self.data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
                (self.data_dir / _MARK).touch()
            for folder in (self.run_dir, self.data_dir / "logs"):
                folder.chmod(0o700)
        except PermissionError as error:
            raise LocalServiceError(f"{error.filename} cannot be written by this user; set FEDERATION_DATA_DIR to a folder of yours") from error

    def rotate(self, part: str) -> None:
        """Keep a part's log below a limit: its text moves to `<part>.log.1`, and the running process goes on in the emptied file."""
        log = self.log(part)
        if log.exists() and log.stat().st_size > _LOG_LIMIT:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)

    def purge(self) -> list[Path]:
        """Remove all that was made here, and return what was left because it is not ours."""
        if not self.data_dir.exists():
            return []
        if (self.data_dir / _MARK).exists():
            shutil.rmtree(self.data_dir)
            return []
        for name in _OURS:
            path = self.data_dir / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return sorted(self.data_dir.iterdir())


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
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(content, indent=2) + "\n")
    draft.replace(path)
