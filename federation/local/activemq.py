"""A local ActiveMQ Classic with a configuration of ours, on loopback, with passwords; speaks STOMP only."""

import os
import secrets
import signal
import socket
import ssl
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from xml.sax.saxutils import escape

from federation.errors import LocalServiceError
from federation.local import children, java, parts
from federation.local.certificates import BROKER, Certificates, write_secret
from federation.local.jars import Distribution
from federation.local.parts import Part
from federation.local.ports import LOOPBACK, free_port

# A user for each kind of part, with the rights that it needs; `admin` has all of them and serves nobody but the tests and a person in need.
ADMIN, WORKER, DOOR, STOMP, RELAY, OBSERVER, OPERATOR = "admin", "worker", "door", "stomp", "relay", "observer", "operator"
USERS = (ADMIN, WORKER, DOOR, STOMP, RELAY, OBSERVER, OPERATOR)

# Java from this version on keeps classes of programs; writing them takes some seconds.
_ARCHIVES_SINCE = 13
_ARCHIVED_WITHIN_S = 60.0
# In good order, and by a signal, as Java tells of it.
_ENDED = (0, 128 + signal.SIGTERM)
_TEMPLATE = Path(__file__).with_name("activemq.xml")
_USERS_HERE = "<!-- Here is a user for each node that is let in alone: docs/adr/0024. -->"
_RIGHTS_HERE = "<!-- Here are the rights of each of these. -->"
_TLS_HERE = "<!-- Here is the key store where TLS is asked for. -->"
# What the store has rolled back or dropped when it was read anew, it tells as INFO.
_LOGGING = """\
log4j.rootLogger=WARN, stdout
log4j.logger.org.apache.activemq.broker.BrokerService=INFO
log4j.logger.org.apache.activemq.store.kahadb.MessageDatabase=INFO
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
"""


@dataclass(frozen=True)
class ActiveMQ:
    """A broker whose data lie below `root`; `passwords` holds one for each of USERS. With `certificates` it speaks TLS and nothing else."""

    root: Path
    port: int
    passwords: Mapping[str, str]
    distribution: Distribution
    certificates: Certificates | None = None
    # Of nodes that are let in alone, by name.
    nodes: Mapping[str, str] = field(default_factory=dict)

    def url(self, user: str = ADMIN) -> str:
        """Return the URL of the broker for kombu."""
        return url(self.port, user, self.passwords[user], self.certificates)

    def part(self) -> Part:
        """Return what the supervisor needs to run the broker."""
        return Part(
            name="activemq",
            command=[
                java.find(),
                # Files are named from the working directory: a URL with the signs that a path may hold is read differently by each library.
                # Little memory and few threads: the broker of one machine idles most of the day.
                *(
                    "-Xms32m",
                    "-Xmx1g",
                    "-XX:+UseSerialGC",
                    "-Xshare:auto",
                    "-XX:-UsePerfData",
                    "-XX:+ExitOnOutOfMemoryError",
                    *([f"-XX:SharedArchiveFile={self.distribution.archive}"] if self.distribution.archive.exists() else []),
                ),
                *("-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true", f"-Djava.io.tmpdir={self.root / 'tmp'}"),
                *("-Dlog4j.configuration=file:log4j.properties", "-Dorg.apache.logging.log4j.level=WARN"),
                *(f"-Dactivemq.home={self.root}", f"-Dactivemq.base={self.root}"),
                *("-cp", ":".join(self.distribution.class_path)),
                *("org.apache.activemq.console.command.ShellCommand", "start", "xbean:file:activemq.xml"),
            ],
            prepare=self.configure,
            is_ready=self.answers,
            cwd=self.root,
            grace_s=15.0,
        )

    def configure(self) -> None:
        """Write the broker's configuration, readable by its user alone."""
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        values = {f"{user}_password": self.passwords[user] for user in USERS}
        values |= {"data": str(self.root / "data"), "host": LOOPBACK, "port": str(self.port)}
        values |= {"scheme": "stomp+ssl" if self.certificates else "stomp"}
        filled = Template(_TEMPLATE.read_text()).substitute({name: _attribute(value) for name, value in values.items()})
        users = [_user(user_of_node(node), "workers", password) for node, password in self.nodes.items()]
        filled = filled.replace(_USERS_HERE, "".join(users))
        filled = filled.replace(_RIGHTS_HERE, "".join(map(rights_of_node, self.nodes)))
        if self.certificates:
            filled = filled.replace(_TLS_HERE, self._key_store(self.certificates))
        configuration = self.root / "activemq.xml"
        configuration.touch(mode=0o600)
        configuration.write_text(filled)
        (self.root / "log4j.properties").write_text(_LOGGING)

    def _key_store(self, certificates: Certificates) -> str:
        """Write the key store anew, under a password that only the configuration has, and return the line that names it."""
        password = secrets.token_urlsafe(24)
        write_secret(self.root / "broker.p12", certificates.key_store(BROKER, password))
        # Named from the working directory, as all files are.
        return f'<sslContext><sslContext keyStore="file:broker.p12" keyStorePassword="{password}" keyStoreType="PKCS12"/></sslContext>'

    def answers(self) -> bool:
        """Say whether the broker takes a STOMP connection with our passwords."""
        try:
            context = self.certificates.client_context() if self.certificates else None
            return connects(LOOPBACK, self.port, OBSERVER, self.passwords[OBSERVER], context=context)
        except OSError:
            return False


def _attribute(value: str) -> str:
    return escape(value, {'"': "&quot;"})


def user_of_node(node: str) -> str:
    """Return the broker's user of a node that is let in alone."""
    return f"node.{node}"


def rights_of_node(node: str) -> str:
    """Return the entry by which a node may read its own queue, beside what all of the group `workers` may."""
    group = _attribute(user_of_node(node))
    return f'<authorizationEntry queue="federation.node.{_attribute(node)}.&gt;" read="{group}"/>'


def _user(user: str, group: str, password: str) -> str:
    name = _attribute(user)
    return f'<authenticationUser username="{name}" password="{_attribute(password)}" groups="{group},{name}"/>'


def archive_classes(distribution: Distribution) -> None:
    """Start a broker once to have Java keep what it has read of the jars: each later start takes two thirds of the time.

    Raises LocalServiceError where that cannot be done, which is no more than a pity.
    """
    if java.version(java.find()) < _ARCHIVES_SINCE:
        raise LocalServiceError(f"Java {_ARCHIVES_SINCE} or newer can do it")
    archive = distribution.archive
    draft = archive.with_name(f"{archive.name}.{os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="federation-") as folder:
        root = Path(folder) / "activemq"
        part = ActiveMQ(root, free_port(), {user: secrets.token_urlsafe(24) for user in USERS}, distribution).part()
        program, *arguments = part.command
        try:
            process = parts.run(replace(part, command=[program, f"-XX:ArchiveClassesAtExit={draft}", *arguments]), root.with_name("log"))
            status = children.stop(process, part.stop_signal, grace_s=_ARCHIVED_WITHIN_S)
            # In one step: Java would crash over half a file, which it leaves where the disk is full.
            if status in _ENDED and draft.exists():
                draft.replace(archive)
                return
        finally:
            draft.unlink(missing_ok=True)
        raise LocalServiceError(f"Java wrote no archive to {archive.parent} (status {status}):\n{parts.tail(root.with_name('log'), 3)}")


def url(port: int, user: str, password: str, certificates: Certificates | None = None) -> str:
    """Return the URL of a broker on this machine; with certificates it says whom to trust."""
    scheme, query = ("activemqs", f"?{certificates.query('ssl_ca_certs')}") if certificates else ("activemq", "")
    return f"{scheme}://{user}:{password}@{LOOPBACK}:{port}/{query}"


def connects(host: str, port: int, user: str, password: str, *, within_s: float = 5.0, context: ssl.SSLContext | None = None) -> bool:
    """Say whether a STOMP broker takes this user; OSError when nobody answers."""
    frame = f"CONNECT\naccept-version:1.2\nhost:{host}\nlogin:{user}\npasscode:{password}\n\n\0"
    return answer(host, port, frame.encode(), within_s=within_s, context=context) == "CONNECTED"


def answer(host: str, port: int, frame: bytes, *, within_s: float, context: ssl.SSLContext | None) -> str:
    """Return the command with which a server of STOMP answers a frame, as far as it is heard at once; OSError when nobody answers."""
    with ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((host, port), timeout=within_s))
        if context:
            connection = stack.enter_context(context.wrap_socket(connection, server_hostname=host))
        connection.sendall(frame)
        return connection.recv(9).decode(errors="replace").partition("\n")[0]
