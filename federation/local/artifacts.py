"""Looks at the folder of artifacts and says what is well and what must be done; changes nothing, and reads none of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg

from federation.local.checks import Finding, Verdict
from federation.settings import Settings, variable


def artifacts(config: Settings) -> Iterator[Finding]:
    """The folder of artifacts can be used by this user alone, and holds what was put there."""
    folder, name = config.artifacts_dir or config.data_dir / "artifacts", variable("artifacts_dir")
    is_there = folder.is_dir()
    if config.artifacts_dir is not None and not is_there:
        yield Finding("artifacts", Verdict.FAIL, f"{name}: there is no folder {folder}", "make it or mount it, the same one on each machine")
    elif is_there and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("artifacts", Verdict.FAIL, f"{folder} cannot be read and written by this user", f"chown it, or correct {name}")
    elif missing := _missing(config, folder):
        saw = f"{len(missing)} of the files that artifacts need are not in {folder}, or not whole: {missing[0]}" + (" …" if len(missing) > 1 else "")
        remedy = f"name the folder that all share in {name}, mount it, or bring them back from a copy; who puts the same content again mends it too"
        # A machine on which nobody puts or gets any may do without.
        yield Finding("artifacts", Verdict.FAIL if is_there else Verdict.WARN, saw, remedy)
    elif is_there and folder.stat().st_mode & 0o077:
        yield Finding("artifacts", Verdict.WARN, f"others of this machine can look into {folder}", f"chmod 700 {folder}")
    elif is_there:
        yield Finding("artifacts", Verdict.OK, str(folder))


def _missing(config: Settings, folder: Path) -> list[str]:
    """Return the digests of which there is no file of their size; whether it is the right one is found when it is read."""
    if config.database_service_url is None:
        return []
    try:
        with psycopg.connect(config.database_service_url.get_secret_value(), connect_timeout=3) as connection:
            rows = connection.execute("SELECT DISTINCT sha256, size FROM artifacts ORDER BY sha256").fetchall()
    except psycopg.Error:
        # No database, or none of ours: other checks say so.
        return []
    return [digest for digest, size in rows if _size(folder / digest[:2] / digest) != size]


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None
