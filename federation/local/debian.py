"""Debian's packages fetched and unpacked into a folder of ours; installs nothing and never needs root."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from federation.errors import LocalServiceError
from federation.local import children


def unpack(packages: Sequence[str], target: Path, *, keep: str = ".", needed: Sequence[str] = ()) -> None:
    """Fetch packages and leave what is below `keep` in them at `target`, in place of what was there.

    The `needed` ones come with what they depend on, as far as this system lacks it. Raises LocalServiceError with apt's own words.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise LocalServiceError("without apt-get and dpkg-deb it cannot be fetched from Debian")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Made complete beside its place and then renamed: a broken download leaves nothing, and two at once do no harm.
    with tempfile.TemporaryDirectory(prefix=f"{target.name}-", dir=target.parent) as work:
        folder = Path(work)
        _download(packages, folder, needed)
        unpacked = folder / "unpacked"
        for package in sorted(folder.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(unpacked)], folder)
        shutil.rmtree(target, ignore_errors=True)
        (unpacked / keep).rename(target)
    target.chmod(0o755)


def _download(packages: Sequence[str], folder: Path, needed: Sequence[str]) -> None:
    def download(options: Sequence[str] = ()) -> None:
        missing = _missing(needed, folder, options) if needed else []
        _run(["apt-get", *options, "download", *packages, *missing], folder)

    try:
        download()
    except LocalServiceError:
        # The system has no package lists, or old ones, and only root may renew them: fetch lists of our own.
        lists, cache = folder / "lists", folder / "cache"
        for made in (lists / "partial", cache / "archives" / "partial"):
            made.mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "APT::Sandbox::User="]
        _run(["apt-get", *own, "update"], folder)
        download(own)


def _missing(packages: Sequence[str], folder: Path, options: Sequence[str]) -> list[str]:
    # A simulated installation tells what it would install, and needs no root.
    told = _run(["apt-get", *options, "--simulate", "--no-install-recommends", "install", *packages], folder)
    return re.findall(r"^Inst (\S+)", told, re.MULTILINE)


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(  # noqa: S603 - the command is ours; one system call, looked up beforehand
        command, cwd=folder, capture_output=True, text=True, check=False, preexec_fn=children.die_with_parent()
    )
    if done.returncode:
        raise LocalServiceError(f"{' '.join(command[:2])} … ended with:\n{done.stderr.strip()}")
    return done.stdout
