"""The machine as it is now, because figures without it mean little; changes nothing but a file that it removes."""

import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

_PACKAGES = ("celery", "kombu", "billiard", "amqp", "redis", "psycopg", "federation")
_COMMITS = 20


def facts(folder: Path) -> dict[str, Any]:
    """Return cores, processor, memory, load, and the file system below the folder."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _first(r"model name\s*:\s*(.*)", "/proc/cpuinfo") or platform.machine(),
        "memory_gib": round(int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo") or 0) / 2**20, 1),
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
        "file_system": _file_system(folder),
    }


def revision() -> str:
    """Return the commit that is measured, with `-dirty` where files differ from it; empty without git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that do the work on the client's and the worker's side."""
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit_ms(folder: Path) -> float:
    """Return what a durable write costs on this disk now, in milliseconds: the median of some appends, each synced."""
    path = folder / "commit"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_COMMITS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    path.unlink()
    return median(taken)


def _first(pattern: str, path: str) -> str | None:
    found = re.search(pattern, Path(path).read_text())
    return found[1].strip() if found else None


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    below = [(mount, kind) for mount, kind in mounts if folder.is_relative_to(mount)]
    return max(below, key=lambda found: len(found[0]))[1] if below else "unknown"
