"""`federation fetch` where nothing can be fetched."""

import os
import subprocess
import sys
from pathlib import Path


def test_without_stunnel_it_says_who_needs_it_and_succeeds(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "activemq-broker-6.1.0.jar").touch()
    environment = {**os.environ, "PATH": "", "ACTIVEMQ_HOME": str(tmp_path), "FEDERATION_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "federation.cli.main", "fetch"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"ACTIVEMQ_HOME={tmp_path}" in done.stdout
    assert "without apt-get and dpkg-deb it cannot be fetched" in done.stderr
    assert "Only `federation up --tls` needs it." in done.stderr
