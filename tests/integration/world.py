"""One database, one broker, the publisher of a door, and real worker processes of nodes with names of their own."""

import json
import os
import secrets
import signal
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from celery.exceptions import TimeoutError as CeleryTimeoutError
from psycopg import sql
from pydantic import SecretStr

from federation.cli.fleet import answers_stomp
from federation.delivery.app import QUEUE_PREFIX, make
from federation.delivery.publisher import CeleryPublisher
from federation.local import node_roles
from federation.local.ports import LOOPBACK, free_port
from federation.services import executions
from federation.settings import Settings
from federation.store import outbox
from federation.transaction import Transactions
from tests import forks
from tests.forks import Started
from tests.integration import kept

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
# The tasks that the workers of tests have.
TASKS = ROOT / "tests" / "integration" / "delivery"


def until(ask: Callable[[], T], what: str | Callable[[], str], *, within_s: float = 90.0) -> T:
    """Ask again and again until the answer is true; a deadline is an error that names what was waited for, and may say how far it is."""
    deadline = time.monotonic() + within_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within_s:g} s in vain: {what if isinstance(what, str) else what()}; last answer {answer!r}")
        time.sleep(0.05)


class World:
    """One database and one broker, with the publisher of a door and the workers that a test starts."""

    def __init__(self, folder: Path, *, owner_url: str, database_url: str, service_url: str, broker: Any, own_logins: bool = True) -> None:
        """With `own_logins` each node that runs here goes in as one that was let in alone, for which `owner_url` must be a superuser's."""
        self.folder, self.owner_url, self.database_url, self.service_url = folder, owner_url, database_url, service_url
        # Who looks into it as a test may do anything there; the parts are the users that they are in a federation.
        self.broker, self.broker_url = broker, broker.url
        self.workers_dir = folder / "workers"
        self.workers_dir.mkdir()
        self.app, self._door = (
            make(partial(Settings, data_dir=folder, broker_url=SecretStr(url), database_service_url=SecretStr(service_url)))
            for url in (broker.url, broker.url_of("door"))
        )
        # One signer, as in any process.
        signing: Any = (self.app.amqp, self._door.amqp)
        signing[1]._signers = signing[0]._signers
        service = kept.engine(service_url)
        self.publisher = CeleryPublisher(self._door, service, stale_s=6)
        self.transactions = Transactions(kept.engine(database_url), self.publisher, service=service)
        self.processes: list[Started] = []
        # Of agents that speak STOMP, by name.
        self.tokens: dict[str, str] = {}
        self.calm_node = ""
        self.calm_worker: Started | None = None
        self.stomp_port = free_port()
        self.tag = uuid.uuid4().hex[:6]
        self._own_logins = own_logins
        self._logins: dict[str, dict[str, str]] = {}

    until = staticmethod(until)

    def trust_nodes(self, stale_s: float) -> None:
        """Take nodes for alive this long after their last sign of life: for tests that announce nodes which nobody then is."""
        engine, service = self.transactions.engine, self.transactions.service
        self.publisher = CeleryPublisher(self._door, service, stale_s=stale_s)
        self.transactions = Transactions(engine, self.publisher, service=service)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")}
        ours = {
            "FEDERATION_DATA_DIR": str(self.folder),
            "FEDERATION_BROKER_URL": self.broker_url,
            "FEDERATION_DATABASE_URL": self.database_url,
            "FEDERATION_DATABASE_SERVICE_URL": self.service_url,
            "FEDERATION_WORKERS_DIR": str(self.workers_dir),
            "FEDERATION_NODE_BEAT_S": "0.5",
            "FEDERATION_HEARTBEAT_S": "1",
            "FEDERATION_OUTBOX_SWEEP_S": "0.5",
            "PYTHONPATH": f"{ROOT}:{TASKS}",
        }
        return kept | ours | more

    def node(self, name: str, *, role: str = "developer", **fields: Any) -> str:
        """Write the file of a node and return its name, which no other test has."""
        tables = [(f"[{key}]", value) for key, value in fields.items() if isinstance(value, dict)]
        tables += [("[[servers]]", server) for server in fields.get("servers", ())]
        plain = {"role": role, "concurrency": 2, **{key: value for key, value in fields.items() if key != "servers" and not isinstance(value, dict)}}
        lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
        for table, values in tables:
            lines += [table, *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        full = f"{name}-{self.tag}"
        (self.workers_dir / f"{full}.toml").write_text("\n".join(lines))
        return full

    def celery(self, *arguments: str, name: str, **environment: str) -> Started:
        log = (self.folder / f"{name}.log").open("ab")
        user = {"worker": "worker", "beat": "relay"}.get(arguments[0], "operator")
        surroundings = self.environment(**{"FEDERATION_BROKER_URL": self.broker.url_of(user), **environment})
        process = forks.start("celery", "-A", "federation", *arguments, cwd=self.folder, env=surroundings, stdout=log)
        self.processes.append(process)
        return process

    def worker(self, node: str, *flags: str, wait: bool = True, **environment: str) -> Started:
        """Start the worker of a node and wait until it has announced itself."""
        login = self.login(node) if self._own_logins and "FEDERATION_DATABASE_SERVICE_URL" not in environment else {}
        process = self.celery("worker", "-Q", node, "-I", "delivery_tasks", *flags, name=node, **(login | environment))
        if wait:
            until(lambda: self.alive(node, process.pid) or process.poll() is not None, f"{node} announces itself")
            assert process.poll() is None, self.log(node)
        return process

    def login(self, node: str) -> dict[str, str]:
        """Return what a node logs in to PostgreSQL with, which lets it do what its work wants and no more."""
        if node not in self._logins:
            password = secrets.token_urlsafe(9)
            node_roles.let_in(self.owner_url, node, password, lasting=None)
            where = self.service_url.rpartition("@")[2]
            names = zip(("FEDERATION_DATABASE_URL", "FEDERATION_DATABASE_SERVICE_URL"), node_roles.ACTING_AS, strict=True)
            self._logins[node] = {name: f"postgresql://{node_roles.name_of(node, acting)}:{password}@{where}" for name, acting in names}
        return self._logins[node]

    def stomp_door(self, *, port: int | None = None, trusted: ssl.SSLContext | None = None, **environment: str) -> Started:
        """Start an agents' door for STOMP and wait until it answers, at the same port each time unless told; over TLS if told whom to trust."""
        port = port or self.stomp_port
        surroundings = self.environment(FEDERATION_BROKER_URL=self.broker.url_of("stomp"), FEDERATION_STOMP_PORT=str(port), **environment)
        log = (self.folder / "stomp.log").open("ab")
        process = forks.start("federation.cli.main", "stomp", cwd=self.folder, env=surroundings, stdout=log)
        self.processes.append(process)
        until(lambda: answers_stomp(LOOPBACK, port, trusted)() or process.poll() is not None, "the STOMP door answers")
        assert process.poll() is None, self.log("stomp")
        return process

    def alive(self, node: str, pid: int) -> bool:
        return bool(self.rows("SELECT 1 FROM nodes WHERE name = %s AND pid = %s AND left_at IS NULL", node, pid))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def record(self, task_name: str, kwargs: dict[str, Any] | None = None, **requirements: Any) -> uuid.UUID:
        """Record an execution as a door does, which also sends it."""
        with self.transactions.begin("tester") as session:
            return outbox.record(session, task_name, kwargs or {}, requirements=requirements)

    def result(self, execution_id: uuid.UUID, *, within_s: float = 90.0) -> Any:
        deadline = time.monotonic() + within_s
        while True:
            try:
                return self.app.AsyncResult(str(execution_id)).get(timeout=5)
            except CeleryTimeoutError as error:
                if time.monotonic() < deadline:
                    self.publisher.sweep()  # as beat does in a whole federation
                    continue
                raise self._late(execution_id) from error

    def _late(self, execution_id: uuid.UUID) -> AssertionError:
        known = {path.stem: self.log(path.stem)[-3000:] for path in self.folder.glob("*.log")}
        return AssertionError(f"no result in time: {self.state(execution_id)}; logs: {known}")

    def state(self, execution_id: uuid.UUID) -> executions.ExecutionView:
        with self.transactions.begin("cli:tester") as session:
            return executions.state(session, execution_id)

    def rows(self, query: str, *values: Any) -> list[Any]:
        return kept.connection(self.owner_url).execute(query, values).fetchall()

    def publish_raw(self, queue: str, body: bytes, headers: dict[str, Any], *, signed: bool = True, **properties: Any) -> None:
        """Put a message on a queue that Celery would never send, signed as a part of the federation would; else as it is."""
        properties = {"content_type": "application/json", "content_encoding": "utf-8"} | properties
        if signed:
            told = {name: properties[name] for name in ("content_type", "content_encoding")}
            headers = self.app.amqp.signed(headers, body, queue=queue, **told)
        with self.app.connection_for_write() as connection:
            channel = connection.default_channel
            connection.Producer(channel).publish(
                body,
                routing_key=queue,
                exchange="",
                headers=headers,
                **properties,
            )

    def destination(self, queue: str) -> str:
        return f"/queue/{QUEUE_PREFIX}{queue}"

    def size(self, queue: str) -> Any:
        """The size of a queue of ActiveMQ, None where there is no such queue yet."""
        with self.app.connection_for_write() as connection:
            return connection.default_channel.connection.statistics().size(queue)

    def stop(self, process: Started) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        # Where a test has left PostgreSQL killed, they stay, and nobody minds.
        with suppress(psycopg.OperationalError), psycopg.connect(self.owner_url, autocommit=True) as connection:
            for role in (node_roles.name_of(node, acting) for node in self._logins for acting in node_roles.ACTING_AS):
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
        self.transactions.engine.dispose()
        self.transactions.service.dispose()
        self.app.backend.close()
        self._door.backend.close()
