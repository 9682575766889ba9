"""What a benchmark has started, and its end in all cases: also on Ctrl-C, SIGTERM, and when the benchmark itself is killed."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from federation.local import children, parts

# A disk, where /tmp may be memory: a durable commit must cost what it costs.
_ON_DISK = Path("/var/tmp")


class Running:
    """The folder of one run and the processes that were started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def folder_of(self, name: str) -> Path:
        """Make a folder that other users may pass through, because PostgreSQL runs as one of them under root."""
        made = self.folder / name
        made.mkdir(mode=0o711, exist_ok=True)
        return made

    def log_of(self, name: str) -> Path:
        """Return the path of a part's log."""
        return self.folder / f"{name}.log"

    @contextmanager
    def part(self, part: parts.Part) -> Iterator[int]:
        """Run a part until the block ends; yields its pid. Raises LocalServiceError when it does not come up."""
        process = parts.run(part, self.log_of(part.name))
        try:
            yield process.pid
        finally:
            children.stop(process, part.stop_signal, grace_s=part.grace_s)


@contextmanager
def running() -> Iterator[Running]:
    """Yield a fresh folder on disk and remove it in the end."""
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        with tempfile.TemporaryDirectory(prefix="federation-benchmark-", dir=_ON_DISK) as name:
            folder = Path(name)
            folder.chmod(0o711)
            yield Running(folder)
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)
