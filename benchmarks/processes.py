"""What processes cost, as the kernel counts it in /proc; changes nothing."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# A process that has loaded one of these holds a model, or is about to.
_MODEL_LIBRARIES = ("libtorch", "xllamacpp", "libllama")


@dataclass(frozen=True)
class Usage:
    """One process: CPU seconds since its birth, those of its ended children included, and its kin."""

    pid: int
    parent: int
    born: str
    cpu_s: float


def usages() -> dict[int, Usage]:
    """Return all processes that can be seen now, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            usage = _usage(entry)
            if usage is not None:
                found[usage.pid] = usage
    return found


def parse_stat(text: str) -> Usage:
    """Return what a line of /proc/<pid>/stat tells; the name in it may hold blanks and brackets."""
    pid, _, rest = text.partition(" ")
    fields = rest.rpartition(")")[2].split()
    cpu_ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return Usage(int(pid), int(fields[1]), fields[19], cpu_ticks / _TICKS_PER_S)


def tree(root: int, among: Mapping[int, Usage]) -> list[int]:
    """Return the pid and all that descend from it."""
    below = [root] if root in among else []
    for pid in below:  # grows while it is walked
        below += [usage.pid for usage in among.values() if usage.parent == pid]
    return below


def pss_mib(pids: Iterable[int]) -> float:
    """Return the proportional set size of the processes together, in MiB; pages that they share count once.

    Raises PermissionError for processes of another user.
    """
    return sum(_memory_kib(pid, "Pss:") for pid in pids) / 1024


def rss_mib(pids: Iterable[int]) -> float:
    """Return the resident set sizes of the processes added up, in MiB; pages that they share count for each."""
    return sum(_memory_kib(pid, "Rss:") for pid in pids) / 1024


def holds_model(pids: Iterable[int]) -> bool:
    """Say whether one of the processes has loaded what runs models."""
    return any(library in _read(Path(f"/proc/{pid}/maps")) for pid in pids for library in _MODEL_LIBRARIES)


def _memory_kib(pid: int, kind: str) -> int:
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith(kind):
            return int(line.split()[1])
    return 0


def _usage(entry: Path) -> Usage | None:
    text = _read(entry / "stat")
    return parse_stat(text) if text else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it ended meanwhile
