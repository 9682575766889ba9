"""A whole federation for one benchmark, each part a process of its own as `federation up` starts them: what is durable waits for the disk."""

import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from benchmarks.core.database import Database, migrated
from benchmarks.running import Running
from federation.cli.fleet import NodeSeen, answers_http
from federation.local import jars
from federation.local.activemq import DOOR, RELAY, USERS, WORKER, ActiveMQ
from federation.local.parts import Part
from federation.local.ports import free_port
from federation.services import agents
from federation.settings import settings

PYTHON = (sys.executable, "-m")
_CELERY = (*PYTHON, "celery", "-A", "federation")
NODE = "bench"
# As the nodes that come with the program; no engine, because nothing here asks a model.
_NODE_FILE = 'role = "lead"\npool = "threads"\nconcurrency = 4\n'
# Nobody summarises, and no agent is slowed down for calling often: that is what is measured.
_UNLIMITED = (
    "MESSAGES_PER_MINUTE",
    "STATES_PER_MINUTE",
    "SEARCHES_PER_MINUTE",
    "OPEN_TASKS_PER_AGENT",
    "CLAIMS_PER_AGENT",
    "INFERENCE_TOKENS_PER_DAY",
)


@dataclass(frozen=True)
class House:
    """A federation that runs: where its door is, its servers, the tokens of its agents, and the processes of its parts."""

    url: str
    database: Database
    activemq: ActiveMQ
    tokens: Mapping[str, str]
    pids: Mapping[str, int]


@contextmanager
def broker(running: Running) -> Iterator[ActiveMQ]:
    """Yield an ActiveMQ that syncs its journal before each receipt. Raises LocalServiceError where it cannot be had."""
    distribution = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
    made = ActiveMQ(running.folder_of("activemq"), free_port(), {user: secrets.token_urlsafe(18) for user in USERS}, distribution)
    with running.part(made.part()):
        yield made


@contextmanager
def federation(
    running: Running, activemq: ActiveMQ, roles: Mapping[str, str], *, node_files: Mapping[str, str] = {NODE: _NODE_FILE}
) -> Iterator[House]:
    """Yield a federation of a node for each file, beat and a front door, with agents of these roles by name. Raises LocalServiceError."""
    with ExitStack() as stack:
        database = stack.enter_context(migrated(running))
        with database.transactions("federation_service") as transactions, transactions.begin("cli:benchmark") as session:
            tokens = {name: agents.add(session, name, role) for name, role in roles.items()}
        port = free_port()
        environment = _environment(running, database, port, node_files)
        pids = {}
        for part in [*(_worker(running, database, node) for node in node_files), *_parts(running, port)]:
            user = {"beat": RELAY, "door": DOOR}.get(part.name, WORKER)
            given = {**environment, "FEDERATION_BROKER_URL": activemq.url(user)}
            pids[part.name] = stack.enter_context(running.part(replace(part, environment=given)))
        yield House(f"http://127.0.0.1:{port}/mcp", database, activemq, tokens, pids)


def _environment(running: Running, database: Database, port: int, node_files: Mapping[str, str]) -> dict[str, str]:
    nodes = running.folder_of("nodes")
    for name, fields in node_files.items():
        (nodes / f"{name}.toml").write_text(fields)
    data = running.folder_of("data")
    return {
        "FEDERATION_DATA_DIR": str(data),
        "FEDERATION_DATABASE_URL": database.url("federation_app"),
        "FEDERATION_DATABASE_SERVICE_URL": database.url("federation_service"),
        "FEDERATION_WORKERS_DIR": str(nodes),
        "FEDERATION_MCP_PORT": str(port),
        "FEDERATION_SUMMARY_WINDOW": "1000000",
        "FEDERATION_LOG_LEVEL": "WARNING",
        **{f"FEDERATION_{name}": "0" for name in _UNLIMITED},
    }


def _worker(running: Running, database: Database, node: str) -> Part:
    seen = NodeSeen(database.url("federation_service"), node)
    return Part(
        name=node,
        command=[*_CELERY, "worker", "-Q", node, "-l", "WARNING"],
        prepare=seen.note,
        is_ready=seen.since_then,
        cwd=running.folder_of("data"),
        ready_within_s=120.0,
    )


def _parts(running: Running, port: int) -> Sequence[Part]:
    folder = running.folder_of("data")
    return (
        Part(name="beat", command=[*_CELERY, "beat", "-l", "WARNING", "--schedule", folder / "beat-schedule", "--pidfile="], cwd=folder),
        Part(name="door", command=[*PYTHON, "federation.cli.main", "serve"], is_ready=answers_http("127.0.0.1", port, "/mcp"), cwd=folder),
    )
