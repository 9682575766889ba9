"""A supervisor whose data directory is on a small disk of its own, which can be filled to the last byte."""

import errno
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from federation.local import children, state
from federation.local.home import Home
from federation.local.state import PartState, PartView, Phase, View

HERE = Path(__file__).parent
WITHIN_S = 120.0
MEBIBYTES = 160


class SmallDisk:
    """A supervisor of stand-ins whose data directory is on a small disk that it alone sees."""

    def __init__(self, folder: Path, command: list[str], *, mebibytes: int = MEBIBYTES) -> None:
        self._folder = folder
        words = [sys.executable, HERE / "small_disk.py", str(mebibytes), folder, *command]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @property
    def root(self) -> Path:
        """The disk, as seen from here."""
        return Path(f"/proc/{self.process.pid}/root{self._folder}")

    @property
    def home(self) -> Home:
        return Home(self.root / "data")

    def view(self) -> View | None:
        # No process is its own mount before it has mounted: then there is no such folder yet.
        return state.read(self.home) if self.home.state_file.exists() else None

    def part(self, name: str) -> PartView:
        view = self.view()
        assert view
        return next(part for part in view.parts if part.name == name)

    def wait_running(self) -> None:
        """Wait until all parts answer; skips where no disk can be mounted."""
        ready = children.wait_until(
            lambda: self.process.poll() is not None or ((view := self.view()) and view.phase is Phase.RUNNING) or False, WITHIN_S
        )
        if self.process.poll() == 77:
            pytest.skip(f"this system lets no ordinary user mount a disk: {self.process.communicate()[1]}")
        assert ready, self.process.communicate()[1]

    def hear(self, name: str, state: PartState, *, not_pid: int) -> int:
        """Read what the supervisor says of its parts until one is in that state, and return its pid."""
        assert self.process.stdout
        for line in self.process.stdout:
            part, now, pid = line.split()
            if (part, now) == (name, state) and int(pid) != not_pid:
                return int(pid)
        raise AssertionError(f"{name} was not {state}")

    def fill(self) -> None:
        """Write until not one byte more can be written."""
        with (self.root / "filler").open("ab", buffering=0) as filler, pytest.raises(OSError, match="No space left") as full:
            for size in (2**20, 2**12, 1):
                while True:
                    try:
                        filler.write(b"\0" * size)
                    except OSError:
                        if size == 1:
                            raise
                        break
        assert full.value.errno == errno.ENOSPC

    def make_room(self) -> None:
        (self.root / "filler").unlink()

    def pids(self, words: str) -> set[int]:
        """The living children of the supervisor, and of its fork server, with these words in their command."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return {child.pid for child in found if children.is_alive(child.pid) and words in " ".join(child.cmdline())}


def end(disk: SmallDisk) -> str:
    """Stop the supervisor and return what it wrote to standard error."""
    if disk.process.poll() is None:
        disk.process.terminate()
    if disk.process.stderr and not disk.process.stderr.closed:
        return disk.process.communicate(timeout=WITHIN_S)[1]
    return ""
