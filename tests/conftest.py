"""Real servers for all tests, one of each a session, on free ports of loopback; ends them in all cases."""

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import hypothesis
import psycopg
import pytest

from federation.local import children, jars, parts
from federation.local.activemq import ADMIN, USERS, ActiveMQ, user_of_node
from federation.local.ports import LOOPBACK, free_port
from federation.local.postgres import ROLES, Postgres
from federation.settings import settings

pytest_plugins = ["tests.toll", "tests.logs"]

# No test fails on a clock, and Hypothesis would give each example 200 ms, and the making of the first ten some seconds.
hypothesis.settings.register_profile("without a clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("without a clock")

# A broker of a test lives for seconds or minutes: Java's second compiler would cost each of them some seconds of processor and pay them back to none.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
# Servers share two cores with all that runs at once, and may stand still for longer than a call would wait for them.
os.environ.setdefault("PGCONNECT_TIMEOUT", "60")

# A job in the background of a script ignores SIGINT, and so would all that tests start and interrupt; a handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # Under nohup; these tests outlive their terminal too, and what they start takes its end for a reason to end.
    signal.signal(signal.SIGHUP, lambda *_: None)

# `make latency` sets it.
MEASURED = "LATENCY_TIMES"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the stories and faults that take minutes, so that none is left to run alone when all else is done."""
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("story", "fault")))


class Server:
    """A part that tests may stop and kill; its data stay. Start it from the main thread: the kernel ends it with the thread that did."""

    def __init__(self, part: parts.Part, log: Path) -> None:
        self._part, self._log = part, log
        self._process: children.Process | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._process is None or self._process.poll() is not None:
            self._process = parts.run(self._part, self._log)

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            children.stop(self._process, self._part.stop_signal, grace_s=self._part.grace_s)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            children.stop(self._process, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it where it is, and return when each of its threads stands still; its sockets stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")


class PostgresServer(Server):
    """A PostgreSQL with the four roles of the federation; `owner_url` is the superuser's."""

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        self.durable = durable
        self._postgres = Postgres(root, free_port(), durable=durable)
        self.role_passwords = {role: secrets.token_urlsafe(9) for role in ROLES}
        super().__init__(self._postgres.part(), root.with_name("postgres.log"))

    def prepare(self) -> None:
        self.start()
        self.ensure_roles(self.role_passwords)

    def ensure_roles(self, passwords: Mapping[str, str]) -> None:
        """Make each role with its password, as `federation up` does."""
        self._postgres.ensure_roles(passwords)

    @property
    def owner_url(self) -> str:
        return self._postgres.url()

    @contextlib.contextmanager
    def database(self, *, owner: str | None = None, template: str | None = None) -> Iterator[str]:
        """Yield the superuser's URL of a fresh database, empty or a clone of the template, and drop it after."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            # PostgreSQL copies no database to which somebody is connected.
            connection.execute("select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = %s", [template])
            connection.execute(f'create database {name} owner "{owner or "postgres"}" template "{template or "template1"}"')
        try:
            yield self._postgres.url(name)
        finally:
            self.start()  # a test may have left it killed
            with psycopg.connect(self.owner_url, autocommit=True) as connection:
                connection.execute(f"drop database if exists {name} with (force)")

    def as_role(self, role: str, database_url: str) -> str:
        """Return the URL of the same database for one of the federation's roles."""
        return self._postgres.url(database_url.rpartition("/")[2], user=role, password=self.role_passwords[role])


class ActiveMQServer(Server):
    """An ActiveMQ with all users; `url` is the administrator's, who may use any names. In its configuration some words may be `changed`."""

    def __init__(self, root: Path, changed: Mapping[str, str] = MappingProxyType({})) -> None:
        passwords = {user: secrets.token_urlsafe(9) for user in USERS}
        distribution = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
        # Nodes that are let in alone.
        nodes = {name: secrets.token_urlsafe(9) for name in ("apart", "aside")}
        passwords |= {user_of_node(name): password for name, password in nodes.items()}
        self._activemq = ActiveMQ(root, free_port(), passwords, distribution, nodes=nodes)
        self.host, self.port = LOOPBACK, self._activemq.port
        self.user, self.password = ADMIN, passwords[ADMIN]
        self.passwords = passwords
        self.url = self._activemq.url()
        self._configuration, self._changed = root / "activemq.xml", changed
        super().__init__(replace(self._activemq.part(), prepare=self._configure), root.with_name("activemq.log"))

    def _configure(self) -> None:
        self._activemq.configure()
        text = self._configuration.read_text()
        for words, others in self._changed.items():
            assert words in text
            text = text.replace(words, others)
        self._configuration.write_text(text)

    def url_of(self, user: str) -> str:
        """Return the URL of another user."""
        return self._activemq.url(user)


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A folder that also `nobody` may enter, because PostgreSQL runs as that user under root."""
    folder = Path(tempfile.mkdtemp(prefix="federation-tests-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_dir: Path) -> Iterator[PostgresServer]:
    """A real PostgreSQL 18 for the whole session; where something is measured, one that waits for its disk."""
    server = PostgresServer(server_dir / "postgres", durable=MEASURED in os.environ)
    server.prepare()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def activemq(server_dir: Path) -> Iterator[ActiveMQServer]:
    """A real ActiveMQ for the whole session."""
    server = ActiveMQServer(server_dir / "activemq")
    server.start()
    yield server
    server.stop()
