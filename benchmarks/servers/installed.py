"""Programs of Debian's packages: installed on this system, or unpacked into our cache; installs nothing."""

from pathlib import Path

from federation.errors import LocalServiceError
from federation.local import debian
from federation.settings import settings

_SYSTEM = Path("/")


def find(package: str, pattern: str) -> Path:
    """Return what the pattern finds on this system, else in the package, which is fetched once with what it depends on.

    Raises LocalServiceError when it cannot be had.
    """
    cached = settings().cache_dir / package
    found = _look(cached, pattern)
    if found is None:
        print(f"Fetching Debian's {package} into {cached} (once).")
        debian.unpack([], cached, needed=[package])
        found = _look(cached, pattern)
    if found is None:
        raise LocalServiceError(f"Debian's package {package} has no {pattern}; remove {cached} and try again")
    return found


def libraries(package: str) -> Path | None:
    """Return the folder of shared libraries that came with an unpacked package, if it was unpacked."""
    return next((settings().cache_dir / package).glob("usr/lib/*-linux-gnu"), None)


def _look(cached: Path, pattern: str) -> Path | None:
    return next((found for place in (_SYSTEM, cached) for found in sorted(place.glob(pattern))), None)
