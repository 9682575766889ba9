"""The command line as an operator's shell runs it, with settings of its own."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
