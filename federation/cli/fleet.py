"""The parts of the federation on this machine, as data for the supervisor; starts nothing."""

import http.client
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import psycopg
from pydantic import SecretStr

from federation.broker.frames import encode
from federation.errors import LocalServiceError, SettingsError
from federation.local import credentials as local_credentials
from federation.local import elsewhere, jars
from federation.local.activemq import DOOR, OBSERVER, OPERATOR, RELAY, STOMP, WORKER, ActiveMQ, answer
from federation.local.certificates import DOOR as FRONT_DOOR
from federation.local.certificates import MAKE, Certificates, usable
from federation.local.credentials import Credentials
from federation.local.elsewhere import is_elsewhere
from federation.local.forkserver import ForkServer
from federation.local.home import Home
from federation.local.parts import PYTHON, Part
from federation.local.port_holders import holder
from federation.local.ports import LOOPBACK, keep_or_choose
from federation.local.postgres import Postgres
from federation.local.state import View
from federation.mcp.where import near
from federation.settings import Settings, in_environment, load, origin, variable

NODES = ("taichi", "aorus", "baby")
_NO_NODES = frozenset({"postgres", "postgres-tls", "activemq", "migrations", "beat", "flower", "frontdoor", "stomp"})
# A node that died is stale before it is back: others see that after six seconds without a sign of life.
_BACK_AFTER_S = 7.5
# What the parts import, and no more than most of them do; not the modules that they run, which Python warns of. None of these starts a thread or
# reads a setting; what loads libraries with threads of their own (torch, LanceDB, llama.cpp) stays out.
IMPORTS = (
    *("celery.bin.celery", "celery.apps.worker", "celery.apps.beat", "celery.worker.consumer", "celery.concurrency.thread"),
    *("federation.celery", "federation.delivery.beat", "federation.broker.transport", "federation.results.backend", "alembic.command"),
    *(f"federation.tasks.{name}" for name in ("claims", "cop", "delegation", "inference", "retrieval", "summaries")),
    *("federation.frontdoor", "federation.cli.serve", "federation.cli.stomp", "psycopg_pool", "fastmcp", "uvicorn"),
)


def forks(home: Home) -> ForkServer:
    """Return what the parts that are Python are forked from."""
    return ForkServer(IMPORTS, home.log("forkserver"))


@dataclass(frozen=True)
class Fleet:
    """What is to run on this machine, and what is otherwise than at the start before."""

    stages: list[list[Part]]
    notices: list[str]


def prepared(home: Home, nodes: Sequence[str]) -> Fleet:
    """Make what is missing (passwords, ports, ActiveMQ's jars, stunnel), write the settings, and return the parts to run.

    Raises SettingsError, BrokerUnavailable or DatabaseUnavailable for a server elsewhere that does not take us,
    LocalServiceError when a service cannot be had here, or a port that somebody has named.
    """
    before = load()
    elsewhere.check_up(before)
    known = local_credentials.load_or_make(home)
    local_broker, local_database = not is_elsewhere(before, "broker_url"), not is_elsewhere(before, "database_url")
    mcp_port = _keep_or_choose("mcp_port", before, home, last_used=known.mcp_port, host=before.mcp_host)
    stomp_port = _keep_or_choose("stomp_port", before, home, last_used=known.stomp_port, host=before.stomp_host)
    flower_port = _keep_or_choose("flower_port", before, home, last_used=known.flower_port)
    others = {"mcp_port": mcp_port, "stomp_port": stomp_port, "flower_port": flower_port}
    for first, second in combinations(others, 2):
        if others[first] == others[second]:
            raise SettingsError(f"{variable(second)}: got {others[second]}, wants another port than {variable(first)}")
    credentials = replace(local_credentials.with_free_ports(known), mcp_port=mcp_port, stomp_port=stomp_port, flower_port=flower_port)
    notices = [
        *(_moved("PostgreSQL", known.postgres_port, credentials.postgres_port) if local_database else ()),
        *(_moved("ActiveMQ", known.activemq_port, credentials.activemq_port) if local_broker else ()),
        *_moved("the front door", before.mcp_port, mcp_port),
        *_moved("the STOMP door", before.stomp_port, stomp_port),
        *_moved("Flower", before.flower_port, flower_port),
    ]
    certificates = usable(before)
    for name in ("mcp_host", "stomp_host"):
        host = getattr(before, name)
        if certificates and not certificates.are_for(FRONT_DOOR, near(host)):
            wants = f"a host that the front door's certificate is for; make it so: {MAKE} --host {host}"
            raise SettingsError(f"{variable(name)}: got {host!r}, wants {wants}")
    local_credentials.save(home, credentials, local_broker=local_broker, local_database=local_database, others=others, certificates=certificates)
    settings = load()
    services = []
    database = Postgres(home.data_dir / "postgres", credentials.postgres_port, certificates=certificates) if local_database else None
    if database:
        services.extend(database.parts(settings.cache_dir))
    if local_broker:
        distribution = jars.find_or_fetch(settings.activemq_home, settings.cache_dir)
        broker = ActiveMQ(home.data_dir / "activemq", credentials.activemq_port, credentials.users, distribution, certificates)
        services.append(replace(broker.part(), prepare=partial(_configure, broker, home)))
    migrations = _migrations(home, database, credentials) if database or settings.database_owner_url else None
    users = _Users(settings, credentials if local_broker else None, certificates)
    workers = [_worker(home, settings, users, node) for node in nodes]
    return Fleet([services, [migrations] if migrations else [], [*workers, *_company(home, settings, users)]], notices)


def _configure(broker: ActiveMQ, home: Home) -> None:
    # Which nodes are let in, as it is at each start: that changes while the rest runs.
    replace(broker, nodes=local_credentials.load_or_make(home).nodes).configure()


def _keep_or_choose(name: str, before: Settings, home: Home, *, last_used: int, host: str = LOOPBACK) -> int:
    """Return the port of this setting if it is free, else another one, unless somebody has named it; in the file may stand the one last used.

    Raises LocalServiceError, and SettingsError for a host that is not this machine's.
    """
    wanted: int = getattr(before, name)
    port = keep_or_choose(wanted, host, whose=name.partition("_")[0].upper())
    if port != wanted and (in_environment(name) or (name in before.model_fields_set and wanted != last_used)):
        whose = f"{wanted}{origin(name, home.settings_file)}"
        raise LocalServiceError(f"{variable(name)}: got {whose}, which is taken{_by(wanted)}; wants a free port, or nothing to have one chosen")
    return port


def _moved(service: str, before: int, now: int) -> Iterator[str]:
    if before not in (0, now):
        yield f"Port {before} of {service} is taken{_by(before)}; from now on it is {now}."


def _by(port: int) -> str:
    found = holder(port)
    return f" by {found}" if found else ""


@dataclass(frozen=True)
class _Users:
    """As whom each part speaks to ActiveMQ: to the local one, whose credentials these are, as a user of its own."""

    settings: Settings
    credentials: Credentials | None
    certificates: Certificates | None = None

    def environment(self, user: str) -> dict[str, str]:
        """Return the variable that gives a part its URL; none where the settings have one URL for all parts."""
        if self.credentials:
            return {variable("broker_url"): self.credentials.broker_url(user, self.certificates)}
        given: SecretStr | None = None if user == OPERATOR else getattr(self.settings, f"broker_{user}_url")
        return {variable("broker_url"): given.get_secret_value()} if given else {}


def nodes_of(view: View) -> list[str]:
    """Return the names of the nodes among the parts that a supervisor runs."""
    return [part.name for part in view.parts if part.name not in _NO_NODES]


def _migrations(home: Home, database: Postgres | None, credentials: Credentials) -> Part:
    def make_database() -> None:
        if database:
            database.ensure_roles(credentials.roles)
            database.ensure_database()

    return Part(
        name="migrations", command=[*PYTHON, "federation.local.migrate"], prepare=make_database, once=True, cwd=home.run_dir, ready_within_s=300.0
    )


def _worker(home: Home, settings: Settings, users: _Users, node: str) -> Part:
    if settings.database_service_url is None:
        raise SettingsError("FEDERATION_DATABASE_SERVICE_URL is not set: name the PostgreSQL as the role federation_service")
    seen = NodeSeen(settings.database_service_url.get_secret_value(), node)
    return Part(
        name=node,
        command=[*PYTHON, "celery", "-A", "federation", "worker", "-Q", node, "--loglevel", settings.log_level],
        prepare=seen.note,
        is_ready=seen.since_then,
        cwd=home.run_dir,
        environment=users.environment(WORKER),
        ready_within_s=120.0,
        back_after_s=_BACK_AFTER_S,
    )


def _company(home: Home, settings: Settings, users: _Users) -> list[Part]:
    celery = (*PYTHON, "celery", "-A", "federation")
    # Not a name that Python could import: this folder is where the parts look for modules first.
    flower = home.run_dir / "flower-settings.py"
    schedule = home.run_dir / "beat-schedule"
    trusted = users.certificates.client_context() if users.certificates else None
    return [
        Part(
            name="beat",
            command=[*celery, "beat", "--loglevel", settings.log_level, "--schedule", schedule, "--pidfile="],
            cwd=home.run_dir,
            environment=users.environment(RELAY),
        ),
        Part(
            name="flower",
            command=[*celery, "flower", f"--conf={flower}"],
            prepare=lambda: _write_flower_settings(flower, settings, users.certificates),
            is_ready=answers_http("127.0.0.1", settings.flower_port, "/", trusted),
            cwd=home.run_dir,
            environment=users.environment(OPERATOR if settings.flower_control else OBSERVER),
        ),
        Part(
            name="frontdoor",
            command=[*PYTHON, "federation.cli.main", "serve"],
            is_ready=answers_http(settings.mcp_host, settings.mcp_port, "/mcp", trusted),
            cwd=home.run_dir,
            environment=users.environment(DOOR),
        ),
        Part(
            name="stomp",
            command=[*PYTHON, "federation.cli.main", "stomp"],
            is_ready=answers_stomp(settings.stomp_host, settings.stomp_port, trusted),
            cwd=home.run_dir,
            environment=users.environment(STOMP),
        ),
    ]


def _write_flower_settings(path: Path, settings: Settings, certificates: Certificates | None) -> None:
    # A file of mode 0600, because a command line can be read by every user of the machine.
    assert settings.flower_password is not None
    path.touch(mode=0o600)
    login = f"{settings.flower_user}:{settings.flower_password.get_secret_value()}"
    lines = {
        "address": "127.0.0.1",
        "port": settings.flower_port,
        "basic_auth": [login],
        # Its pages then show no buttons, and its interface answers 403; the broker refuses commands of the user `observer` besides.
        "read_only": not settings.flower_control,
        # A command, and needless: our workers always tell.
        "enable_events": False,
    }
    if certificates:
        lines |= {"certfile": str(certificates.certificate(FRONT_DOOR)), "keyfile": str(certificates.key(FRONT_DOOR))}
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in lines.items()))


def answers_http(host: str, port: int, path: str, trusted: ssl.SSLContext | None = None) -> Callable[[], bool]:
    """Return a question: does a server answer there with anything but an error of its own? Over TLS where it says whom to trust."""

    def ask() -> bool:
        address, timeout_s = near(host), 2
        connection = (
            http.client.HTTPSConnection(address, port, timeout=timeout_s, context=trusted)
            if trusted
            else http.client.HTTPConnection(address, port, timeout=timeout_s)
        )
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ask


def answers_stomp(host: str, port: int, trusted: ssl.SSLContext | None = None) -> Callable[[], bool]:
    """Return a question: does a door for STOMP there refuse who brings no token? Over TLS where it says whom to trust."""

    def ask() -> bool:
        try:
            return answer(near(host), port, encode("CONNECT", {"accept-version": "1.2", "host": near(host)}), within_s=2, context=trusted) == "ERROR"
        except OSError:
            return False

    return ask


@dataclass
class NodeSeen:
    """Whether a node has given a sign of life since its worker was started, as the table `nodes` has it."""

    database_url: str
    node: str
    _noted: object = field(default=None, init=False)

    def _last_seen(self) -> object:
        try:
            with psycopg.connect(self.database_url, connect_timeout=2) as connection:
                row = connection.execute("select last_seen_at from nodes where name = %s", [self.node]).fetchone()
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return None
        return row[0] if row else None

    def note(self) -> None:
        """Remember the last sign of life of the worker before."""
        self._noted = self._last_seen()

    def since_then(self) -> bool:
        """Say whether there was a newer one."""
        now = self._last_seen()
        return now is not None and now != self._noted
