"""Who has a port of this machine, as far as the kernel tells this user; opens none."""

import contextlib
import pwd
from collections.abc import Iterator
from pathlib import Path

from federation.local.ports import promise

_PROC = Path("/proc")
_LISTENS = "0A"


def holder(port: int) -> str | None:
    """Return who listens on a port, or was promised it: such as `python3 (pid 4711)`, or whose process it is where this user may see no more.

    None if nobody is seen to have it.
    """
    users = dict(_listening(port))
    sockets = {f"socket:[{inode}]" for inode in (*users, *_promised(port))}
    for process in _PROC.iterdir() if sockets else ():
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile
            if process.name.isdigit() and any(_leads_to(descriptor) in sockets for descriptor in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text(errors='replace').strip()} (pid {process.name})"
    return next((f"a process of {_name(user)}" for user in users.values()), None)


def _listening(port: int) -> Iterator[tuple[str, int]]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a machine without IPv6
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, user, _, inode, *_ = line.split()
                if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
                    yield inode, int(user)


def _promised(port: int) -> Iterator[str]:
    # The kernel shows the NUL before an abstract name as an @.
    name = promise(port).replace("\0", "@")
    for line in (_PROC / "net" / "unix").read_text(errors="replace").splitlines()[1:]:
        *_, inode, path = line.split(maxsplit=7)
        if path == name:
            yield inode


def _leads_to(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"the user {user}"
