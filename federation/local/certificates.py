"""A private certificate authority and the certificates of the local services, in `<data_dir>/tls`; no private key leaves this machine."""

import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, load_pem_private_key, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.errors import InvalidInput, SettingsError
from federation.local.home import Home
from federation.settings import Settings

BROKER, DATABASE, DOOR = "broker", "postgres", "frontdoor"
SERVICES = (BROKER, DATABASE, DOOR)
AUTHORITY = "ca"
MAKE = "federation tls init"

# Ten years, because each client must be told when it changes; servers' as long as most programs accept.
AUTHORITY_LASTS, SERVER_LASTS = timedelta(days=3650), timedelta(days=825)
# Clocks differ.
_SLACK = timedelta(hours=1)
_HERE = ("localhost", "127.0.0.1", "::1")
_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True)
class Certificates:
    """The folder with `ca.pem`, and a certificate and a key for each service."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The certificate that clients must trust."""
        return self.certificate(AUTHORITY)

    def certificate(self, name: str) -> Path:
        """Return the path of a certificate."""
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        """Return the path of a private key."""
        return self.folder / f"{name}.key"

    def ends(self) -> dict[str, datetime]:
        """Return when each certificate ends. Raises SettingsError for what is missing or cannot be read."""
        return {name: _read(self.certificate(name)).not_valid_after_utc for name in (AUTHORITY, *SERVICES)}

    def check(self) -> None:
        """Pass if servers can start with these and clients will trust them. Raises SettingsError, which says what to do."""
        now = datetime.now(UTC)
        for name, end in self.ends().items():
            if end <= now:
                raise SettingsError(f"the certificate {self.certificate(name)} ended on {end:%Y-%m-%d}; make a new one, and start anew: {MAKE}")
        authority = _read(self.authority)
        for name in SERVICES:
            certificate = _read(self.certificate(name))
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature) as error:
                raise SettingsError(f"{self.certificate(name)} was not made by {self.authority}; make it anew: {MAKE}") from error
            try:
                # An empty password, so that nobody is asked at a terminal for that of a locked key.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate(name), self.key(name), password="")
            except OSError as error:
                raise SettingsError(f"{self.certificate(name)} does not go with {self.key(name)}; make both anew: {MAKE}") from error

    def key_store(self, name: str, password: str) -> bytes:
        """Return a certificate, its key and its authority as Java reads them, locked with the password."""
        key = load_pem_private_key(_bytes(self.key(name)), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        locked = BestAvailableEncryption(password.encode())
        return pkcs12.serialize_key_and_certificates(name.encode(), key, _read(self.certificate(name)), [_read(self.authority)], locked)

    def query(self, authority: str, **others: str) -> str:
        """Return the query of a URL whose parameter `authority` is the path of the certificate to trust, beside these others."""
        # Not with a plus for a blank, which libpq does not read so.
        return urlencode({**others, authority: str(self.authority)}, quote_via=quote)

    def client_context(self) -> ssl.SSLContext:
        """Return what trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self.authority))

    def server_context(self, name: str) -> ssl.SSLContext:
        """Return what a service shows its clients."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate(name), self.key(name))
        return context

    def are_for(self, name: str, host: str) -> bool:
        """Say whether a service's certificate is good for a host's name or address."""
        return host.lower() in {one.lower() for one in self.hosts(name)}

    def make(self, hosts: Iterable[str]) -> Mapping[str, datetime]:
        """Make what is missing or has ended of the authority, and new certificates for all services; return when each ends.

        They are for this machine's names, those of before, and these hosts. Raises InvalidInput for a host that is neither a name nor an address,
        SettingsError for an authority whose key is missing or another's.
        """
        names = list(dict.fromkeys((*_HERE, socket.gethostname(), *self.hosts(DOOR), *hosts)))
        alternatives = [_general_name(name) for name in names]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        key, authority = self._authority()
        for service in SERVICES:
            self._issue(service, alternatives, key, authority)
        return self.ends()

    def hosts(self, name: str) -> list[str]:
        """Return the hosts of a certificate that is there."""
        try:
            found = _read(self.certificate(name)).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (SettingsError, x509.ExtensionNotFound):
            return []
        return [str(name.value) for name in found]

    def _authority(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        # One that ends before what it signs would end it with it.
        if self.authority.exists() and _read(self.authority).not_valid_after_utc > datetime.now(UTC) + SERVER_LASTS:
            return self._signing_key(), _read(self.authority)
        made = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"federation on {socket.gethostname()}"[:64])])
        builder = _builder(name, name, made.public_key(), AUTHORITY_LASTS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        signed = builder.sign(made, hashes.SHA256())
        self._write(AUTHORITY, made, signed)
        return made, signed

    def _signing_key(self) -> ec.EllipticCurvePrivateKey:
        # Whoever trusts this authority would not trust another one, so that none takes its place unasked.
        try:
            key = load_pem_private_key(self.key(AUTHORITY).read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise self._without_key(str(error)) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != _read(self.authority).public_key():
            raise self._without_key("it is the key of another")
        return key

    def _without_key(self, why: str) -> SettingsError:
        ways = f"put the right one there, or remove {self.authority} to have another authority made, which clients must then be told to trust"
        return SettingsError(f"{self.authority} cannot sign with {self.key(AUTHORITY)} ({why}); {ways}")

    def _issue(self, service: str, alternatives: list[x509.GeneralName], signer: ec.EllipticCurvePrivateKey, authority: x509.Certificate) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, service)])
        builder = _builder(subject, authority.subject, key.public_key(), SERVER_LASTS)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage("digital_signature"), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        self._write(service, key, builder.add_extension(issuer, critical=False).sign(signer, hashes.SHA256()))

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        # The key first: a certificate without its key helps nobody.
        write_secret(self.key(name), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        write_secret(self.certificate(name), certificate.public_bytes(Encoding.PEM), mode=0o644)


def usable(config: Settings) -> Certificates | None:
    """Return the certificates to use, None where TLS is not asked for. Raises SettingsError, which says what to do."""
    if not config.tls:
        return None
    found = Certificates(Home(config.data_dir).tls_dir)
    found.check()
    return found


def write_secret(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file in one step, with this mode from its first moment on."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.chmod(mode)
    draft.replace(path)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); FEDERATION_TLS wants certificates, and this makes them: {MAKE}") from error


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_bytes(path))
    except ValueError as error:
        raise SettingsError(f"{path} is no certificate in PEM; remove it, then: {MAKE}") from error


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not re.fullmatch(r"(\*\.)?\w([\w-]*\w)?(\.\w([\w-]*\w)?)*", name):
        raise InvalidInput("--host", host, "a host's name or address, such as fed.example or 10.0.0.7")
    return x509.DNSName(name)


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, lasts: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _SLACK).not_valid_after(now + lasts)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _usage(*named: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in named for name in _USAGES})


def trusted(config: Settings, authority: Path | None = None) -> ssl.SSLContext:
    """Return what trusts the authorities that this machine does, its own for the federation, and the one named. Raises SettingsError."""
    own = Certificates(Home(config.data_dir).tls_dir).authority
    context = ssl.create_default_context()
    for file in (own if own.is_file() else None, authority):
        try:
            if file is not None:
                context.load_verify_locations(file)
        except OSError as error:
            raise SettingsError(f"{file}: holds no certificate of an authority in PEM ({error.strerror or error}); copy the ca.pem") from error
    return context
