"""A private authority signs certificates for all services; what is missing, ended or foreign is told with what to do."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from federation.errors import InvalidInput, SettingsError
from federation.local import certificates as module
from federation.local.certificates import BROKER, DOOR, SERVICES, Certificates


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    certificates = Certificates(tmp_path / "tls")
    certificates.make(["fed.example", "10.0.0.7"])
    return certificates


def shake_hands(server: Certificates, service: str, client: ssl.SSLContext, name: str) -> None:
    """Let both sides speak TLS in memory."""
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(server.certificate(service), server.key(service))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = listening.wrap_bio(to_server, to_client, server_side=True)
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    # Each says three things at most.
    for side in (here, there, here, there):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    here.do_handshake()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "fed.example", "10.0.0.7"])
def test_who_trusts_the_authority_trusts_each_service_by_each_name(made: Certificates, service: str, name: str) -> None:
    client = made.client_context()
    # As newer versions of Python ask for.
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(made, service, client, name)


def test_other_names_and_other_authorities_are_not_trusted(made: Certificates, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example"):
        shake_hands(made, DOOR, made.client_context(), "other.example")
    other = Certificates(tmp_path / "other")
    other.make([])
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|self-signed"):
        shake_hands(made, DOOR, other.client_context(), "localhost")


def test_keys_are_for_their_owner_alone(made: Certificates) -> None:
    assert made.folder.stat().st_mode & 0o777 == 0o700
    for name in (*SERVICES, module.AUTHORITY):
        assert made.key(name).stat().st_mode & 0o777 == 0o600
        assert made.certificate(name).stat().st_mode & 0o777 == 0o644


def test_making_them_again_keeps_the_authority_and_the_names(made: Certificates) -> None:
    before, old = made.authority.read_bytes(), made.certificate(DOOR).read_bytes()
    made.make(["new.example"])
    assert made.authority.read_bytes() == before
    assert made.certificate(DOOR).read_bytes() != old
    assert {"fed.example", "10.0.0.7", "new.example", "localhost"} <= set(made.hosts(DOOR))
    assert made.are_for(DOOR, "FED.example")
    assert not made.are_for(DOOR, "other.example")
    made.check()


def test_an_authority_that_would_end_before_what_it_signs_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = Certificates(tmp_path / "tls")
    with monkeypatch.context() as patch:
        patch.setattr(module, "AUTHORITY_LASTS", module.SERVER_LASTS - timedelta(days=1))
        certificates.make([])
    before = certificates.authority.read_bytes()
    ends = certificates.make([])
    assert certificates.authority.read_bytes() != before
    assert ends[module.AUTHORITY] > ends[DOOR] > datetime.now(UTC) + timedelta(days=800)


def test_an_authority_without_its_key_is_not_replaced_unasked(made: Certificates, tmp_path: Path) -> None:
    before, key = made.authority.read_bytes(), made.key(module.AUTHORITY)
    other = Certificates(tmp_path / "other")
    other.make([])
    for content in (None, b"no key", other.key(module.AUTHORITY).read_bytes()):
        key.unlink()
        if content:
            key.write_bytes(content)
        with pytest.raises(SettingsError, match=r"ca\.pem cannot sign with .*ca\.key .*remove"):
            made.make([])
        assert made.authority.read_bytes() == before
        key.touch()
    made.check()
    made.authority.unlink()
    made.make([])
    made.check()
    assert made.authority.read_bytes() != before


def test_a_locked_key_is_refused_and_nobody_is_asked_for_its_password(made: Certificates) -> None:
    key = load_pem_private_key(made.key(DOOR).read_bytes(), None)
    made.key(DOOR).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"words")))
    with pytest.raises(SettingsError, match=r"frontdoor\.pem does not go with .*frontdoor\.key"):
        made.check()


def test_what_has_ended_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = Certificates(tmp_path / "tls")
    with monkeypatch.context() as patch:
        patch.setattr(module, "SERVER_LASTS", timedelta(minutes=-1))
        certificates.make([])
    with pytest.raises(SettingsError, match=r"broker\.pem ended on .*federation tls init"):
        certificates.check()
    certificates.make([])
    certificates.check()


def test_what_is_missing_or_foreign_is_told_with_what_to_do(made: Certificates, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ca\.pem cannot be read .*federation tls init"):
        Certificates(tmp_path / "nowhere").check()
    other = Certificates(tmp_path / "other")
    other.make([])
    made.key(BROKER).write_bytes(other.key(BROKER).read_bytes())
    with pytest.raises(SettingsError, match=r"broker\.pem .*federation tls init"):
        made.check()
    made.certificate(BROKER).write_bytes(other.certificate(BROKER).read_bytes())
    with pytest.raises(SettingsError, match=r"broker\.pem was not made by .*federation tls init"):
        made.check()
    made.certificate(BROKER).write_text("no certificate")
    with pytest.raises(SettingsError, match=r"broker\.pem is no certificate in PEM.*federation tls init"):
        made.check()


@pytest.mark.parametrize("host", ["", "two words", "http://fed.example", "a..b", "-"])
def test_a_host_that_is_none_is_refused_and_nothing_is_made(tmp_path: Path, host: str) -> None:
    certificates = Certificates(tmp_path / "tls")
    with pytest.raises(InvalidInput, match="--host"):
        certificates.make([host])
    assert not certificates.folder.exists()


def test_a_path_of_any_kind_stands_in_a_url(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "a b+c&d=e%f")
    assert certificates.query("sslrootcert", sslmode="verify-full").endswith("a%20b%2Bc%26d%3De%25f%2Fca.pem")
