"""Where programs are looked for, and what is said when there are none."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from federation.errors import LocalServiceError
from federation.local import jars, java, ports, stunnel


def test_home_without_activemq_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LocalServiceError, match="ACTIVEMQ_HOME") as told:
        jars.find(tmp_path, tmp_path)
    assert str(tmp_path) in str(told.value)


def test_given_home_wins(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "activemq-broker-6.1.0.jar").touch()
    found = jars.find(tmp_path, tmp_path)
    assert found
    assert f"{tmp_path}/lib/*" in found.class_path


def test_without_apt_the_three_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if jars.find(None, tmp_path):
        pytest.skip("ActiveMQ is installed on this machine")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalServiceError) as told:
        jars.find_or_fetch(None, tmp_path)
    for way in ("FEDERATION_BROKER_URL", "ACTIVEMQ_HOME", "compose"):
        assert way in str(told.value)


def test_failed_download_leaves_nothing_and_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if jars.find(None, tmp_path):
        pytest.skip("ActiveMQ is installed on this machine")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text("#!/bin/sh\necho no network >&2\nexit 100\n")
    (programs / "apt-get").chmod(0o755)
    dpkg = shutil.which("dpkg-deb")
    if dpkg is None:
        pytest.skip("not Debian")
    (programs / "dpkg-deb").symlink_to(dpkg)
    monkeypatch.setenv("PATH", f"{programs}:/bin")
    with pytest.raises(LocalServiceError, match="no network"):
        jars.find_or_fetch(None, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_stunnel_is_the_systems_else_the_cached_one_with_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "stunnel" / "usr" / "bin" / "stunnel4"
    library = tmp_path / "stunnel" / "usr" / "lib" / "x86_64-linux-gnu" / "libwrap.so.0"
    for made in (program, library):
        made.parent.mkdir(parents=True)
        made.touch()
    monkeypatch.setenv("PATH", "")
    found = stunnel.find(tmp_path)
    assert found
    assert (found.program, found.libraries) == (program, [library.parent])
    system = tmp_path / "bin" / "stunnel"
    system.parent.mkdir()
    system.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(system.parent))
    assert stunnel.find(tmp_path) == stunnel.Stunnel(str(system), system)


def test_without_stunnel_and_apt_the_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalServiceError, match=r"apt-get(?s:.)*stunnel4(?s:.)*FEDERATION_DATABASE_URL"):
        stunnel.find_or_fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("told", "major"), [('openjdk version "17.0.15" 2025', 17), ('java version "1.8.0_401"', 8), ('openjdk version "25"', 25), ("gibberish", 0)]
)
def test_version_of_java_is_understood(tmp_path: Path, told: str, major: int) -> None:
    program = tmp_path / "java"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{told}\nEND\n")
    program.chmod(0o755)
    assert java.version(program) == major


def test_missing_java_has_no_version(tmp_path: Path) -> None:
    assert java.version(tmp_path / "nothing") == 0


def test_taken_port_is_given_up_and_a_free_one_kept() -> None:
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ports.keep_or_choose(port) != port
    free = ports.free_port()
    assert ports.keep_or_choose(free) == free


def test_port_that_another_federation_has_chosen_is_given_up_until_that_one_ends() -> None:
    port = ports.free_port()
    chooses = f"from federation.local import ports; print(ports.keep_or_choose({port}), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", chooses], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == port
        assert ports.is_free(port)
        assert ports.keep_or_choose(port) != port
        other.communicate("\n")
    assert ports.keep_or_choose(port) == port
