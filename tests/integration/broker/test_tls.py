"""TLS on a real ActiveMQ, with keys of the test's own: who is trusted, who is not, and everything that works without it."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import kombu
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from kombu.asynchronous.hub import Hub

from federation.broker.errors import ConnectionLost, NotStomp, TlsFailed, TlsMisconfigured
from federation.local.ports import keep_or_choose

HOST = "127.0.0.1"
STORE_PASSWORD = "opens the stores"
# ActiveMQ unescapes what a login says, against the letter of STOMP 1.2.
STRANGE_PASSWORD = r"a:b\\c\cd@/ü%41"
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates and writes them where OpenSSL and Java find them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        public = self._key.public_key()
        builder = self._builder(self._name, public).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        usage = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
        usage |= {"key_cert_sign": True, "crl_sign": True, "encipher_only": False, "decipher_only": False}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        self.certificate = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False).sign(self._key, hashes.SHA256())
        self.file = self._write("ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, public: Any, ends: datetime.timedelta = 30 * DAY) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public)
        return builder.serial_number(x509.random_serial_number()).not_valid_before(now - 2 * DAY).not_valid_after(now + ends)

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def issue(self, name: str, ends: datetime.timedelta = 30 * DAY) -> dict[str, str]:
        """Write a key, a certificate for the loopback address and Java's key store of both; return the first two as broker_use_ssl names them."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), ends)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        lock = serialization.BestAvailableEncryption(STORE_PASSWORD.encode())
        self._write(f"{name}.p12", pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, [self.certificate], lock))
        return {
            "certfile": str(self._write(f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM))),
            "keyfile": str(self._write(f"{name}.key", pem)),
        }

    def java_trust(self) -> Path:
        """Write Java's store of the certificates that it trusts."""
        lock = serialization.BestAvailableEncryption(STORE_PASSWORD.encode())
        return self._write("trust.p12", pkcs12.serialize_java_truststore([pkcs12.PKCS12Certificate(self.certificate, b"ca")], lock))


@dataclass(frozen=True)
class SecureBroker:
    """An ActiveMQ with three TLS connectors."""

    authority: Authority
    ports: dict[str, int]
    user: str
    password: str

    def url(self, connector: str = "ssl", *, host: str = HOST, **query: str) -> str:
        """Return the URL of a connector."""
        return f"activemqs://{self.user}:{self.password}@{host}:{self.ports[connector]}/?{urlencode(query)}"

    def connect(self, connector: str = "ssl", *, host: str = HOST, **tls: Any) -> kombu.Connection:
        """Return a connection that has not connected yet."""
        return kombu.Connection(self.url(connector, host=host), ssl={"ca_certs": str(self.authority.file), **tls}, connect_timeout=60)


@pytest.fixture(scope="module")
def authorities(server_dir: Path) -> tuple[Authority, Authority]:
    """The broker's, and one that nobody knows."""
    return Authority(server_dir / "authority"), Authority(server_dir / "stranger")


@pytest.fixture(scope="module")
def broker(activemq: Any, server_dir: Path, authorities: tuple[Authority, Authority]) -> Iterator[SecureBroker]:
    authority = authorities[0]
    authority.issue("broker")
    server = type(activemq)(server_dir / "activemq-tls")
    server.passwords["stomp"] = STRANGE_PASSWORD
    configuration = server_dir / "activemq-tls" / "activemq.xml"
    kinds = {"ssl": "stomp+ssl", "nio": "stomp+nio+ssl", "client": "stomp+ssl"}
    # Promised to this process until it ends: the broker opens them much later.
    ports = {name: keep_or_choose(None) for name in kinds}

    def configure() -> None:
        written.prepare()
        stores = f'keyStore="{authority.folder}/broker.p12" keyStorePassword="{STORE_PASSWORD}" keyStoreType="PKCS12" '
        stores += f'trustStore="{authority.java_trust()}" trustStorePassword="{STORE_PASSWORD}" trustStoreType="PKCS12"'
        connectors = "".join(
            f'<transportConnector name="{name}" uri="{kind}://{HOST}:{ports[name]}?wireFormat.maxFrameSize=104857600'
            f'{"&amp;needClientAuth=true" if name == "client" else ""}"/>'
            for name, kind in kinds.items()
        )
        text = configuration.read_text()
        text = text.replace("<systemUsage>", f"<sslContext><sslContext {stores}/></sslContext>\n<systemUsage>", 1)
        configuration.write_text(text.replace("</transportConnectors>", f"{connectors}</transportConnectors>"))

    written = server._part
    # With 256 MB of heap ActiveMQ dies of OutOfMemoryError after a few messages of 20 MB.
    command = ["-Xmx1g" if part == "-Xmx256m" else part for part in written.command]
    server._part = replace(written, prepare=configure, command=command)
    server.start()
    yield SecureBroker(authority, ports, server.user, server.password)
    server.stop()


@pytest.fixture(params=["ssl", "nio"])
def secure(request: pytest.FixtureRequest, broker: SecureBroker) -> Iterator[Callable[..., kombu.Connection]]:
    """Opens connections to each kind of connector."""
    opened: list[kombu.Connection] = []

    def connect(**tls: Any) -> kombu.Connection:
        opened.append(broker.connect(request.param, **tls))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.release()


def test_large_messages_with_any_byte_pass(secure: Any, bus: Any, queue: kombu.Queue) -> None:
    body = bytes(range(256)) * 4096 * 20
    bus.publish(secure(), queue, body, content_type="application/data", content_encoding="binary")
    (message,) = bus.listen(secure(), queue).wait()
    assert message.body == body
    message.ack()


def test_threads_publish_while_another_consumes(secure: Any, bus: Any, queue: kombu.Queue) -> None:
    connection = secure()
    inbox = bus.listen(connection, queue, prefetch_count=20)
    failed: list[BaseException] = []

    def publish_some(start: int) -> None:
        try:
            producer = kombu.Producer(connection.channel())
            for number in range(start, start + 25):
                producer.publish({"number": number, "padding": "x" * 20_000}, routing_key=queue.name)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=publish_some, args=(start,)) for start in range(0, 200, 25)]
    for thread in threads:
        thread.start()
    settled = 0
    while settled < 200 and not failed:
        inbox.wait(settled + 1)[settled].ack()
        settled += 1
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(body["number"] for body in inbox.bodies) == list(range(200))


def test_an_event_loop_hears_of_what_lies_decrypted(secure: Any, bus: Any, queue: kombu.Queue) -> None:
    """Many small messages in one TLS record: the poller sees the socket once, and the rest must not wait in OpenSSL."""
    connection, sender = secure(), secure()
    hub = Hub()
    received: list[Any] = []
    producer = kombu.Producer(sender)
    with kombu.Consumer(connection, [queue], on_message=received.append, no_ack=True):
        connection.register_with_event_loop(hub)
        with producer.batch():
            for number in range(2000):
                producer.publish(number, routing_key=queue.name)
        turns = 0
        while len(received) < 2000:
            hub.run_once()
            turns += 1
            assert turns < 20_000, f"{len(received)} of 2000 came"
    hub.close()
    assert [message.decode() for message in received] == list(range(2000))


def test_a_url_alone_can_say_it_all(broker: SecureBroker, bus: Any, queue: kombu.Queue) -> None:
    with kombu.Connection(broker.url(ssl_ca_certs=str(broker.authority.file), ssl_cert_reqs="required")) as connection:
        bus.publish(connection, queue, "said")


def test_the_names_of_redis_are_understood(broker: SecureBroker) -> None:
    with kombu.Connection(broker.url(), ssl={"ssl_ca_certs": str(broker.authority.file), "ssl_cert_reqs": ssl.CERT_REQUIRED}) as connection:
        connection.connect()


def test_a_password_with_any_sign_is_accepted(broker: SecureBroker) -> None:
    with replace(broker, user="stomp", password=quote(STRANGE_PASSWORD, safe="")).connect() as connection:
        connection.connect()


def test_without_check_any_certificate_is_taken(broker: SecureBroker) -> None:
    with kombu.Connection(broker.url(), ssl={"cert_reqs": ssl.CERT_NONE}) as connection:
        connection.connect()


def test_without_a_word_the_systems_authorities_decide(broker: SecureBroker) -> None:
    with pytest.raises(TlsFailed, match="certificate was not accepted"):
        kombu.Connection(broker.url(), connect_timeout=60).connect()


def test_an_unknown_authority_is_refused(broker: SecureBroker, authorities: tuple[Authority, Authority]) -> None:
    with pytest.raises(TlsFailed, match=r"certificate was not accepted.*ca_certs"):
        broker.connect(ca_certs=str(authorities[1].file)).connect()


def test_another_host_name_is_refused_unless_it_is_told(broker: SecureBroker) -> None:
    with pytest.raises(TlsFailed, match="certificate is not valid for 'localhost'"):
        broker.connect(host="localhost").connect()
    with broker.connect(host="localhost", server_hostname=HOST) as connection:
        connection.connect()
    with broker.connect(host="localhost", check_hostname=False) as connection:
        connection.connect()


def test_a_client_certificate_is_shown(broker: SecureBroker, bus: Any, queue: kombu.Queue) -> None:
    with broker.connect("client", **broker.authority.issue("client")) as connection:
        bus.publish(connection, queue, "known")
        assert bus.listen(connection, queue, no_ack=True).wait()[0].decode() == "known"


def test_a_missing_or_unknown_client_certificate_is_named(broker: SecureBroker, authorities: tuple[Authority, Authority]) -> None:
    # The broker's alert may be overtaken by the end of the connection: then only the hint is left.
    with pytest.raises((TlsFailed, ConnectionLost), match=r"certificate|certfile"):
        broker.connect("client").transport.establish_connection()
    with pytest.raises((TlsFailed, ConnectionLost), match=r"certificate|certfile"):
        broker.connect("client", **authorities[1].issue("client")).transport.establish_connection()


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        ({"ca_cert": "x"}, "unknown names ca_cert; known are ca_certs"),
        ({"ca_certs": "/nowhere/ca.pem"}, "cannot use ca_certs='/nowhere/ca.pem'"),
        ({"cert_reqs": "perhaps"}, "want one of none, optional, required"),
    ],
)
def test_a_wrong_setting_is_named(broker: SecureBroker, tls: dict[str, str], reason: str) -> None:
    with pytest.raises(TlsMisconfigured, match=reason):
        broker.connect(**tls).connect()


def test_the_clear_and_the_secret_do_not_mix(broker: SecureBroker, activemq: Any) -> None:
    with pytest.raises(NotStomp, match="may want TLS: `activemqs://`"):
        kombu.Connection(broker.url().replace("activemqs:", "activemq:"), connect_timeout=60).connect()
    with pytest.raises((ConnectionLost, TlsFailed), match="TLS"):
        kombu.Connection(activemq.url.replace("activemq:", "activemqs:"), connect_timeout=1).transport.establish_connection()


def test_an_expired_certificate_is_refused(authorities: tuple[Authority, Authority]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(**authorities[0].issue("expired", -DAY))
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted, pytest.raises(ssl.SSLError):
                context.wrap_socket(accepted, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"activemqs://{HOST}:{listener.getsockname()[1]}/"
        with pytest.raises(TlsFailed, match="has expired"):
            kombu.Connection(url, ssl={"ca_certs": str(authorities[0].file)}, connect_timeout=60).connect()
        thread.join()


def test_what_is_written_after_a_failure_is_still_encrypted(broker: SecureBroker) -> None:
    """Python's SSLSocket.shutdown drops the encryption and then ends the stream: a thread between both would write in the clear."""
    with broker.connect() as connection:
        wire = connection.transport.wire if connection.connect() else None
        assert wire is not None
        wire._fail("as if the peer were gone")
        assert wire._sock.version() is not None


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_celery_worker_works_over_tls(broker: SecureBroker, celery: Any, start: Any, pool: str) -> None:
    # A task and its result pass; the app of the test says in broker_use_ssl what the worker's URL says in words.
    celery.conf.update(broker_url=broker.url("nio"), broker_use_ssl={"ca_certs": str(broker.authority.file)})
    worker = start(pool, url=broker.url("nio", ssl_ca_certs=str(broker.authority.file)))
    assert celery.tasks_of_sample.add.delay(20, 22).get(timeout=60) == 42
    text = "ä" * 1_000_000
    assert celery.tasks_of_sample.add.delay(text, "!").get(timeout=60) == f"{text}!"
    assert celery.control.ping(destination=[worker.name], timeout=60, limit=1) == [{worker.name: {"ok": "pong"}}]
