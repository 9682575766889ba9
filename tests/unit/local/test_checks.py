"""What `federation doctor` says of certificates, of keys, and of what speaks TLS for PostgreSQL."""

from datetime import timedelta
from pathlib import Path

import pytest

from federation.local import certificates as module
from federation.local import checks
from federation.local.certificates import DOOR, Certificates
from federation.local.checks import Verdict
from federation.local.home import Home
from federation.security.signing import load_or_make
from federation.settings import Settings


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", tls=True)


@pytest.fixture
def certificates(config: Settings) -> Certificates:
    made = Certificates(Home(config.data_dir).tls_dir)
    made.make([])
    return made


def found(config: Settings, check: str) -> dict[Verdict, str]:
    return {finding.verdict: f"{finding.saw}; {finding.remedy}" for finding in checks.encryption(config) if finding.check == check}


def test_certificates_that_last_are_well(config: Settings, certificates: Certificates) -> None:
    assert f"{certificates.ends()[DOOR]:%Y-%m-%d}" in found(config, "tls")[Verdict.OK]


def test_a_certificate_that_ends_soon_is_a_warning(config: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SERVER_LASTS", timedelta(days=29))
    Certificates(Home(config.data_dir).tls_dir).make([])
    assert "ends in 28 days" in found(config, "tls")[Verdict.WARN]


def test_without_certificates_the_command_that_makes_them_is_named(config: Settings) -> None:
    assert "federation tls init" in found(config, "tls")[Verdict.FAIL]


def test_a_stunnel_that_is_not_here_is_told_before_it_is_needed(
    config: Settings, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert "FEDERATION_DATABASE_URL" in found(config, "stunnel")[Verdict.FAIL]
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(apt.parent))
    assert "federation fetch" in found(config, "stunnel")[Verdict.WARN]
    program = tmp_path / "cache" / "stunnel" / "usr" / "bin" / "stunnel4"
    program.parent.mkdir(parents=True)
    program.touch()
    assert str(tmp_path / "cache") in found(config, "stunnel")[Verdict.OK]


def test_a_folder_of_node_files_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert list(checks.node_files(Settings(data_dir=tmp_path))) == []
    [well] = checks.node_files(Settings(data_dir=tmp_path, workers_dir=tmp_path))
    [wrong] = checks.node_files(Settings(data_dir=tmp_path, workers_dir=tmp_path / "nope"))
    assert (well.verdict, wrong.verdict) == (Verdict.OK, Verdict.FAIL)
    assert "FEDERATION_WORKERS_DIR" in wrong.saw


def test_an_index_that_takes_any_folder_is_a_warning(tmp_path: Path) -> None:
    [wide] = checks.index_roots(Settings(data_dir=tmp_path))
    [well] = checks.index_roots(Settings(data_dir=tmp_path, index_roots=[tmp_path]))
    assert (wide.verdict, well.verdict) == (Verdict.WARN, Verdict.OK)
    assert "FEDERATION_INDEX_ROOTS" in wide.remedy


def test_a_key_that_others_can_read_is_named(config: Settings, certificates: Certificates) -> None:
    certificates.key(DOOR).chmod(0o644)
    told = [finding for finding in checks.permissions(config) if finding.verdict is Verdict.FAIL and "frontdoor.key" in finding.saw]
    assert [finding.remedy for finding in told] == [f"chmod 600 {certificates.key(DOOR)}"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_signing_key_that_others_can_read_is_named_and_its_public_half_is_not(tmp_path: Path, elsewhere: bool) -> None:
    data = tmp_path / "data"
    keys, seals = (tmp_path / "own" / "keys", tmp_path / "own" / "seals") if elsewhere else (data / "keys", data / "seals")
    config = Settings(data_dir=data, keys_dir=keys if elsewhere else None, seals_dir=seals if elsewhere else None)
    paths = [keys / "agent-ada.pem", keys / "node-taichi.pem", seals / "signing.pem"]
    for path in paths:
        load_or_make(path)

    def named() -> list[str]:
        return [finding.remedy for finding in checks.permissions(config) if finding.saw.endswith("can be read by others")]

    assert named() == []
    for path in paths:
        path.chmod(0o644)
    assert named() == [f"chmod 600 {path}" for path in paths]
