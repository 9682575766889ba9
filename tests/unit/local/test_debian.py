"""Fetching Debian's packages, with an apt that says what the test wants."""

import shutil
import subprocess
from pathlib import Path

import pytest

from federation.errors import LocalServiceError
from federation.local import debian

# Answers as apt does: a simulation lists what is missing, a download leaves files in the working directory.
APT = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
case "$*" in
    *--simulate*) echo "Inst wanted (1.0 Debian)"; echo "Inst its-library (2.0 Debian) []"; echo "Conf wanted (1.0 Debian)";;
    *download*) cp "$(dirname "$0")"/*.deb .;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    dpkg = shutil.which("dpkg-deb")
    if dpkg is None:
        pytest.skip("not Debian")
    content, folder = tmp_path / "content", tmp_path / "bin"
    for made in (content / "DEBIAN", content / "usr" / "share", folder):
        made.mkdir(parents=True)
    fields = {"Package": "wanted", "Version": "1.0", "Architecture": "all", "Maintainer": "nobody <nobody@example.org>", "Description": "it"}
    (content / "DEBIAN" / "control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    (content / "usr" / "share" / "it").write_text("here")
    content.chmod(0o755)
    (content / "DEBIAN").chmod(0o755)
    subprocess.run([dpkg, "--build", "--root-owner-group", str(content), str(folder / "wanted.deb")], check=True, capture_output=True)
    (folder / "apt-get").write_text(APT)
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_packages_are_unpacked_in_place_of_what_was_there(programs: Path, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "wanted"
    target.mkdir(parents=True)
    (target / "old").touch()
    debian.unpack(["wanted"], target)
    assert (target / "usr" / "share" / "it").read_text() == "here"
    assert not (target / "old").exists()
    assert [made.name for made in target.parent.iterdir()] == ["wanted"]


def test_only_the_folder_asked_for_is_kept(programs: Path, tmp_path: Path) -> None:
    debian.unpack(["wanted"], tmp_path / "cache" / "wanted", keep="usr/share")
    assert [made.name for made in (tmp_path / "cache" / "wanted").iterdir()] == ["it"]


def test_what_the_system_lacks_comes_with_it(programs: Path, tmp_path: Path) -> None:
    debian.unpack(["first"], tmp_path / "cache" / "wanted", needed=["wanted"])
    simulated, downloaded = (programs / "calls").read_text().splitlines()
    assert simulated.endswith("install wanted")
    assert downloaded == "download first wanted its-library"


def test_without_package_lists_own_ones_are_fetched(programs: Path, tmp_path: Path) -> None:
    refusing = APT.replace('case "$*" in', 'case "$*" in\n    download*) echo "E: Unable to locate package" >&2; exit 100;;')
    (programs / "apt-get").write_text(refusing)
    debian.unpack(["wanted"], tmp_path / "cache" / "wanted")
    calls = (programs / "calls").read_text().splitlines()
    assert ["update" in call for call in calls] == [False, True, False]
    assert "Dir::State::Lists=" in calls[-1]


def test_without_a_network_nothing_is_left_and_apt_is_quoted(programs: Path, tmp_path: Path) -> None:
    (programs / "apt-get").write_text("#!/bin/sh\necho 'E: no network' >&2\nexit 100\n")
    with pytest.raises(LocalServiceError, match="no network"):
        debian.unpack(["wanted"], tmp_path / "cache" / "wanted")
    assert list((tmp_path / "cache").iterdir()) == []
