"""Keys are made once, in files that only their owner reads, and what signs with them can be checked by others."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import SettingsError
from federation.security.signing import SigningKey, load, load_or_make, load_public, public_file


def test_a_key_is_made_once_and_its_public_half_checks(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    made = load_or_make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_make(path).public.identity == made.public.identity
    public = load_public(public_file(path))
    assert public.identity == made.public.identity
    signature = made.sign(b"so it was")
    assert public.signed(b"so it was", signature)
    assert not public.signed(b"so it was not", signature)
    assert not public.signed(b"so it was", signature[::-1])
    assert [file.name for file in sorted(path.parent.iterdir())] == ["signing.pem", "signing.pub.pem"]


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_what_is_signed_is_what_openssl_signs_and_each_checks_what_the_other_made(data: bytes, other: bytes) -> None:
    theirs = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    ours = SigningKey(theirs)
    signature = ours.sign(data)
    assert signature == theirs.sign(data)
    theirs.public_key().verify(signature, data)
    assert ours.public.signed(data, signature)
    assert ours.public.signed(other, signature) is (other == data)
    assert not ours.public.signed(data, other)


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_holds_no_key_is_told_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signing.pem"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="is no private key in PEM"):
        load_or_make(path)
    with pytest.raises(SettingsError, match="is no public key in PEM"):
        load_public(path)
    assert path.read_bytes() == content


def test_a_key_of_another_kind_is_told(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    path.write_bytes(generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SettingsError, match="wants an Ed25519 key"):
        load(path)


def test_a_public_key_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name the public key of the seals"):
        load_public(tmp_path / "nowhere.pem")
