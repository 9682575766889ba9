"""Ed25519 keys (RFC 8032) in files of their own; a private key leaves its file for this process only.

libsodium signs and checks, because it takes little more than half of OpenSSL's time; what it makes is the same. The files are OpenSSL's.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import nacl.exceptions
import nacl.signing
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from federation.errors import SettingsError


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with."""

    key: Ed25519PublicKey

    @cached_property
    def identity(self) -> str:
        """The key's name: the SHA-256 of its 32 bytes, in hexadecimal digits."""
        return sha256(self._raw).hexdigest()

    @property
    def _raw(self) -> bytes:
        return self.key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    @cached_property
    def _checking(self) -> nacl.signing.VerifyKey:
        return nacl.signing.VerifyKey(self._raw)

    @property
    def pem(self) -> str:
        """The key as text, for others."""
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def signed(self, data: bytes, signature: bytes) -> bool:
        """Return whether this key's owner signed the data."""
        try:
            self._checking.verify(data, signature)
        except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError):  # a wrong one, and one of another length
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """A key that signs."""

    key: Ed25519PrivateKey

    @cached_property
    def public(self) -> PublicKey:
        return PublicKey(self.key.public_key())

    @cached_property
    def _signing(self) -> nacl.signing.SigningKey:
        return nacl.signing.SigningKey(self.key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))

    def sign(self, data: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self._signing.sign(data).signature


def public_file(path: Path) -> Path:
    """Return the file beside a private key that holds its public half."""
    return path.with_suffix(".pub.pem")


def load_or_make(path: Path) -> SigningKey:
    """Return the private key of this file, which is made if it is not there, with mode 0600, and its public half beside it.

    Raises SettingsError for a file that holds no such key.
    """
    try:
        found = load(path)
    except FileNotFoundError:
        made = SigningKey(Ed25519PrivateKey.generate())
    else:
        ensure_public(path, found)
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    unready = path.with_suffix(f".{os.getpid()}.tmp")
    with open(os.open(unready, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        os.fsync(file.fileno())
    try:
        # Of two who make it at once, one wins; neither ever replaces a key that is there.
        os.link(unready, path)
    except FileExistsError:
        made = load(path)
    finally:
        unready.unlink()
    ensure_public(path, made)
    return made


def ensure_public(path: Path, key: SigningKey) -> None:
    """See to it that the public half lies beside the private key."""
    beside = public_file(path)
    if not beside.exists():
        beside.write_text(key.public.pem)


def load(path: Path) -> SigningKey:
    """Return the private key of this file. Raises FileNotFoundError, SettingsError for a file that holds no such key."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{path}: is no private key in PEM without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{path}: holds a {type(key).__name__}, wants an Ed25519 key")
    return SigningKey(key)


def load_public(path: Path) -> PublicKey:
    """Return the public key of this file. Raises SettingsError if there is none in it."""
    try:
        return parse_public(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}; name the public key of the seals") from error
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from error


def parse_public(pem: bytes) -> PublicKey:
    """Return the public key of this text. Raises ValueError if there is none in it."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"is no public key in PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"holds a {type(key).__name__}, wants an Ed25519 key")  # noqa: TRY004 - the text is wrong, not the call
    return PublicKey(key)
