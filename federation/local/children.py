"""Child processes that end with their parent; knows nothing of what they run."""

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from federation.settings import PREFIX

_PR_SET_PDEATHSIG = 1
# Looked up before any fork: between fork and exec nothing may be loaded.
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class Process(Protocol):
    """A process that somebody started and will ask how it ended: `subprocess.Popen`, or one of a fork server."""

    @property
    def pid(self) -> int:
        """Return its pid, which nobody else gets before it was asked how it ended."""

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int, /) -> None:
        """Send it a signal, unless it has ended."""

    def kill(self) -> None:
        """End it."""


@dataclass(frozen=True)
class Account:
    """The user that a child runs as."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return `nobody` for root, because PostgreSQL refuses to run as root; None for any other user."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def environment_for(account: Account | None) -> dict[str, str]:
    """Return our environment as a child has it; one that runs as another user gets no settings of ours, among which are passwords."""
    return {name: value for name, value in os.environ.items() if account is None or not name.startswith(PREFIX)}


def can_enter(path: Path, account: Account) -> bool:
    """Say whether the account may pass through each folder above the path; one that is not there yet will be made passable."""
    return all(_may_pass(folder, account) for folder in path.resolve().parents if folder.exists())


def _may_pass(folder: Path, account: Account) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == account.gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def die_with_parent(death_signal: int = signal.SIGKILL) -> Callable[[], None]:
    """Return a `preexec_fn` after which the kernel signals the child when the thread that starts it ends, however it ends.

    The child's own children are left to it: a pool of Celery asks the kernel for the same, PostgreSQL's backends watch their server.
    """
    parent = os.getpid()

    def before_exec() -> None:
        _prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before the request was made
            os._exit(1)

    return before_exec


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    account: Account | None = None,
    death_signal: int = signal.SIGKILL,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, its output appended to the log; `environment` is added to ours, see `environment_for`.

    The kernel sends it `death_signal` when the thread that called this ends: call it from the main thread.
    """
    with log.open("ab") as output:
        # Popen changes the user before preexec_fn, and the kernel forgets the request when the user changes: this order is the one that works.
        return subprocess.Popen(  # noqa: S603 - the command is ours
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
            env={**environment_for(account), **(environment or {})},
            preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509 - one system call, looked up beforehand
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


def birth(pid: int) -> str | None:
    """Return the start time of a living process in clock ticks, which with the pid names it for good; None for a dead one or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    # PID 1 may reap late: a zombie holds nothing any more and counts as dead.
    return None if fields[0] in "ZX" else fields[19]


def is_alive(pid: int, born: str | None = None) -> bool:
    """Say whether the pid is a living process, and the one born then."""
    now = birth(pid)
    return now is not None and born in (None, now)


def working_in(folder: Path) -> list[int]:
    """Return the living processes whose working directory is the folder, as far as this user may see."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # gone meanwhile, or another user's
                if (entry / "cwd").readlink() == folder and is_alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], bool], within_s: float, *, every_s: float = 0.05) -> bool:
    """Ask again and again until the condition holds; False after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def signal_group(pgid: int, signum: int) -> bool:
    """Send the signal to each process of the group; False when there is none left."""
    try:
        os.killpg(pgid, signum)
    except ProcessLookupError:
        return False
    return True


def stop(process: Process, signum: int = signal.SIGTERM, *, grace_s: float = 10.0) -> int:
    """Ask the child to end, kill its whole group after the grace, and return its exit status."""
    if process.poll() is None:
        process.send_signal(signum)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    signal_group(process.pid, signal.SIGKILL)
    return process.wait()
