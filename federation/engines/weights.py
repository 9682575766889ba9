"""Weights that lie in installed packages: where they are; imports no such package."""

from importlib.util import find_spec
from pathlib import Path


def installed(module: str) -> bool:
    """Say whether a top-level module can be imported, without importing it."""
    try:
        return find_spec(module) is not None
    except ValueError:  # a module without a spec, such as one that a test put into sys.modules
        return False


def in_package(package: str, pattern: str) -> Path | None:
    """Return the first file of an installed package that matches `pattern`, None if there is none."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    for folder in spec.submodule_search_locations:
        for path in sorted(Path(folder).glob(pattern)):
            if path.is_file():
                return path
    return None
