"""A git repository, asked by git itself: what is about to be committed, where its hooks are, and what it keeps of our settings."""

import os
import subprocess
from pathlib import Path

from federation.errors import InvalidInput, LocalServiceError

SECTION = "federation"


def git(*words: str, folder: Path | None = None) -> bytes:
    """Return what git says. Raises LocalServiceError where there is no git, InvalidInput where it refuses."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)  # noqa: S603, S607 - git as the person has it
    except FileNotFoundError as error:
        raise LocalServiceError("git is not installed, or not in PATH") from error
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip()
        raise InvalidInput("repository", str(folder or Path.cwd()), f"a git repository ({told})")
    return done.stdout


def _path(answer: bytes, folder: Path | None) -> Path:
    return ((folder or Path.cwd()) / os.fsdecode(answer.rstrip(b"\n"))).resolve()


def hook_file(folder: Path | None) -> Path:
    """Return where the pre-commit hook of a repository is, or would be.

    Raises InvalidInput for a folder of hooks that other repositories share, and where there is no repository.
    """
    # The file itself, and not what it may be a link to.
    hook = _path(git("rev-parse", "--git-path", "hooks", folder=folder), folder) / "pre-commit"
    common = _path(git("rev-parse", "--git-common-dir", folder=folder), folder)
    bare = git("rev-parse", "--is-bare-repository", folder=folder).strip() == b"true"
    if bare:
        raise InvalidInput("repository", str(folder or Path.cwd()), "one with files: in a bare one nobody commits")
    root = _path(git("rev-parse", "--show-toplevel", folder=folder), folder)
    if not any(hook.is_relative_to(own) for own in (common, root)):
        wants = (
            "hooks of this repository alone; core.hooksPath leads to a folder that others may share: call `federation hook check` in the hook there"
        )
        raise InvalidInput("repository", str(hook.parent), wants)
    return hook


def own_file(name: str) -> Path:
    """Return where a file of ours is kept beside the index of this working tree. Raises InvalidInput where there is no repository."""
    return _path(git("rev-parse", "--git-path", name), None)


def setting(name: str) -> str | None:
    """Return what git's configuration has as `federation.<name>`; None if nothing. Raises LocalServiceError where there is no git."""
    try:
        found = git("config", "--get", f"{SECTION}.{name}")
    except InvalidInput:
        return None
    return found.decode(errors="replace").rstrip("\n") or None


def set_setting(name: str, value: str | None, *, folder: Path | None) -> None:
    """Write a setting into a repository's own configuration, or take it out. Raises InvalidInput, LocalServiceError."""
    if value is not None:
        git("config", "--local", f"{SECTION}.{name}", value, folder=folder)
    elif git("config", "--local", "--default", "", "--get", f"{SECTION}.{name}", folder=folder).strip():
        git("config", "--local", "--unset-all", f"{SECTION}.{name}", folder=folder)


def staged() -> list[str]:
    """Return the paths that the commit changes, adds or removes, from the root of the repository.

    Of a merge, those that are as in none of its parents: what the other side changed is committed there already.
    """
    found = _differing("--cached")
    for parent in _merged():
        found &= _differing("--cached", parent)
    return sorted(found)


def _differing(*against: str) -> set[str]:
    # A file that was moved is one that is gone and one that is new; bytes that are no UTF-8 stay what they are.
    names = git("diff", "--name-only", "--no-renames", "--no-ext-diff", "--ignore-submodules=none", "-z", *against)
    return {os.fsdecode(name) for name in names.split(b"\0") if name}


def _merged() -> list[str]:
    heads = _path(git("rev-parse", "--git-path", "MERGE_HEAD"), None)
    return heads.read_text().split() if heads.is_file() else []
