"""One supervisor a data directory: a lock that the kernel lets go of when its holder ends, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from federation.errors import LocalServiceError
from federation.local import children
from federation.local.home import Home


class AlreadyRunning(LocalServiceError):
    """Another supervisor holds this data directory."""

    def __init__(self, home: Home, pid: int | None) -> None:
        self.pid = pid
        super().__init__(f"the federation in {home.data_dir} is running already (pid {pid}); see: federation status")


@contextlib.contextmanager
def exclusive(home: Home) -> Iterator[None]:
    """Hold the data directory.

    Raises AlreadyRunning.
    """
    with home.lock_file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(home, holder(home)) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()} {children.birth(os.getpid())}\n")
        lock.flush()
        yield


def holder(home: Home) -> int | None:
    """Return the pid of the supervisor that holds the data directory; None when it is free."""
    try:
        words = home.lock_file.read_text().split()
    except FileNotFoundError:
        return None
    return int(words[0]) if len(words) == 2 and children.is_alive(int(words[0]), words[1]) else None
