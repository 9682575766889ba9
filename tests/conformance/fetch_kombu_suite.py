"""Fetches kombu's own tests of transports, which only its source distribution carries, for the installed version; run by `make fetch`."""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "kombu-suite"
SUITES = (Path("t") / "integration", Path("t") / "unit" / "transport" / "virtual")


def suite_folder() -> Path:
    """Where the tests of the installed kombu lie, or will."""
    return CACHE / version("kombu")


def _pip(uv: str | None) -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = uv or shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    if not Path(found).exists():
        raise SystemExit("neither pip nor uv is here: install one of them, or name uv with --uv")
    # uv cannot download a source distribution by itself.
    return [found, "tool", "run", "--python", sys.executable, "pip"]


def _unpack(archive: Path, folder: Path, wanted: str) -> None:
    prefix = f"kombu-{wanted}/"
    with tarfile.open(archive) as tar:
        wanted_folders = tuple(f"{prefix}{suite}/" for suite in SUITES)
        members = [member for member in tar if member.isfile() and member.name.startswith(wanted_folders)]
        if missing := [name for name in wanted_folders if not any(member.name.startswith(name) for member in members)]:
            raise SystemExit(f"{archive.name} has no {', '.join(missing)}: is it kombu {wanted}?")
        for member in members:
            target = folder / member.name.removeprefix(prefix)
            content = tar.extractfile(member)
            if content is not None and ".." not in target.parts:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())


def fetch(uv: str | None = None) -> Path:
    """Fetch and unpack the tests, unless they are there; return their folder."""
    wanted, folder = version("kombu"), suite_folder()
    if all((folder / suite).exists() for suite in SUITES):
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", f"kombu=={wanted}", "--dest", scratch]
        subprocess.run([*_pip(uv), *arguments], check=True)
        archives = list(Path(scratch).glob(f"kombu-{wanted}.tar.gz"))
        if len(archives) != 1:
            raise SystemExit(f"pip brought no kombu-{wanted}.tar.gz")
        fresh = Path(scratch) / "suite"
        _unpack(archives[0], fresh, wanted)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        # Moved as a whole, so that an interrupted fetch leaves nothing that looks complete.
        shutil.move(fresh, folder)
    return folder


def main() -> None:
    """Fetch, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uv", help="path of uv, used where pip is not installed")
    sys.stdout.write(f"kombu's tests of transports: {fetch(parser.parse_args().uv).relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
