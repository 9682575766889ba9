"""A migrated database for each test, as if newly cloned, and transactions as the unprivileged role; each write is watched for its event."""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from federation import charter
from federation.services import agents
from federation.store.context import Unsent
from federation.store.models import Base
from federation.transaction import Transactions
from tests import event_schemas, forks
from tests.integration import kept
from tests.integration.stock import Stock

ROOT = Path(__file__).parents[2]


def alembic(owner_url: str, *arguments: str) -> None:
    """Run alembic as an operator does; its output is in the error where it fails."""
    environment = os.environ | {"FEDERATION_DATABASE_OWNER_URL": owner_url}
    done = forks.run("alembic", "-c", str(ROOT / "pyproject.toml"), *arguments, cwd=ROOT, env=environment, text="", timeout_s=240)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session", name="alembic")
def _alembic() -> Callable[..., None]:
    """The command that operators migrate with."""
    return alembic


@dataclass(frozen=True, slots=True)
class Write:
    """One row that the program wrote, with the types of the events of its transaction and actor; `changed`: column → before and after."""

    table: str
    verb: str
    actor: str
    written_by: str | None
    changed: Mapping[str, tuple[Any, Any]] | None
    events: Sequence[str]

    def flaw(self) -> str | None:
        """Return what is wrong with it, in words."""
        who = f"{self.verb} of {self.table} by {self.actor or 'nobody'}"
        if not self.actor:
            return f"{who}: no actor"
        if self.verb != "DELETE" and self.written_by != self.actor:
            return f"{who}: the row says that {self.written_by or 'nobody'} wrote it"
        if self._has_event() or self._is_sign_of_life():
            return None
        return f"{who}: no event of this actor in the transaction; changed: {', '.join(sorted(self.changed or {})) or 'the row'}"

    def _has_event(self) -> bool:
        return any(event.startswith(EVENTS.get(self.table, ())) for event in self.events)

    def _is_sign_of_life(self) -> bool:
        if self.verb != "UPDATE" or self.table not in SIGNS_OF_LIFE:
            return False
        changed = self.changed or {}
        before, after = changed.get("waiting_for", (None, None))
        begins_to_wait = before is None and after is not None
        return changed.keys() - {"updated_by"} <= SIGNS_OF_LIFE[self.table] and not begins_to_wait


# What the rule leaves out, and why. The tables of the result backend are in a metadata of their own: it knows nobody, and what it
# stores is told by the event of the write that the result speaks of.
BOOKKEEPING = {
    "events": "it is the log",
    "allowances": "it counts how much an agent may still do, of what events tell already",
    "streams": "it counts the positions of the log, and of inboxes",
    "event_order": "it numbers the events of the log",
    "event_relay": "it is how far the topics were told of the log",
    "seals": "they are signed over the log; an event of each would have to be sealed in its turn",
}
# How the events of a table's writes begin; a table that is new wants a line here.
EVENTS = {
    "agent_capabilities": ("agent.capabilities",),
    "agent_findings": ("finding.reported",),
    "agent_session_members": ("session.joined",),
    "agent_sessions": ("session.",),
    "agent_tasks": ("task.",),
    "agent_keys": ("agent.key",),
    "agent_tokens": ("agent.token",),
    "agents": ("agent.",),
    "artifacts": ("artifact.stored",),
    "ballots": ("consensus.voted",),
    "chunks": ("index.scanned", "index.written"),
    "claim_waiters": ("claim.",),
    "claims": ("claim.",),
    "consensus": ("consensus.",),
    "consensus_acks": ("consensus.acknowledged",),
    "cached_answers": ("answer.",),
    "conversation_members": ("conversation.joined",),
    "conversation_phases": ("conversation.moved",),
    "conversations": ("conversation.", "message.sent"),
    "cop_history": ("agent.state_updated", "node."),
    "cop_states": ("agent.state_updated", "node."),
    "dismissals": ("execution.dismissed",),
    "documents": ("index.scanned", "index.worded"),
    "execution_deliveries": ("execution.delivered",),
    "execution_effects": ("execution.effect_recorded",),
    "executions": ("execution.",),
    "feeds": ("feed.",),
    "graph_relations": ("graph.extracted",),
    "indexed_folders": ("index.scanned",),
    "index_batches": ("index.batched", "index.embedded"),
    "index_runs": ("index.scanned", "index.searchable", "index.finished"),
    "memories": ("memory.",),
    "message_receipts": ("message.",),
    "messages": ("message.sent",),
    "model_runs": ("model.ran", "answer.reused"),
    "nodes": ("node.",),
    "outbox": ("execution.",),
    "quarantine": ("execution.quarantined",),
    "redrives": ("execution.redriven",),
    "role_assignments": ("role.assigned",),
    "signers": ("signer.", "node.removed"),
    "services": ("service.registered",),
    "statements": ("statement.",),
    "summaries": ("conversation.summarised",),
    "summary_schedules": ("conversation.scheduled", "conversation.unscheduled"),
    "vector_changes": ("index.scanned", "index.searchable", "index.embedded", "index.written"),
}
# docs/adr/0003-signs-of-life.md: these columns alone may change without an event.
SIGNS_OF_LIFE = {
    "nodes": {"last_seen_at", "load"},
    "claim_waiters": {"present_until"},
    "cop_states": {"summary", "data", "updated_at"},
    "feeds": {"position"},
    "outbox": {"waiting_for", "attempts", "tried_at"},
}
# Tests that turn a clock or lose a row do it by hand, under this name.
BY_HAND = "test:hand"


class Watch:
    """Notes each row that the program writes, by triggers, and tells which have no actor or no event in their own transaction."""

    TABLES = frozenset(Base.metadata.tables.keys() - BOOKKEEPING.keys())

    _INSTALL = """
        CREATE SCHEMA watch;
        CREATE TABLE watch.writes (
            at timestamptz DEFAULT clock_timestamp(), xact xid8, role name, actor text, relation name, verb text, written_by text, changed jsonb,
            event text
        );
        CREATE INDEX ON watch.writes (xact) WHERE relation = 'events';
        CREATE FUNCTION watch.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        DECLARE
            after jsonb := to_jsonb(NEW);
        BEGIN
            INSERT INTO watch.writes (xact, role, actor, relation, verb, written_by, changed, event) VALUES (
                pg_current_xact_id(), session_user, current_setting('federation.actor', true), TG_TABLE_NAME, TG_OP,
                coalesce(after->>'updated_by', after->>'actor', after->>'created_by', after->>'added_by', after->>'sender', after->>'holder',
                    after->>'agent_id'),
                (SELECT jsonb_object_agg(key, jsonb_build_array(was.value, now.value))
                 FROM jsonb_each(to_jsonb(OLD)) AS was JOIN jsonb_each(after) AS now USING (key) WHERE was.value <> now.value),
                CASE WHEN TG_TABLE_NAME = 'events' THEN after->>'type' END
            );
            RETURN NULL;
        END $$
    """
    _WRITES = """
        SELECT relation, verb, coalesce(actor, ''), written_by, changed, ARRAY(
            SELECT told.event FROM watch.writes AS told
            WHERE told.relation = 'events' AND told.xact = written.xact AND told.written_by = written.actor
        )
        FROM watch.writes AS written
        WHERE (role IN ('federation_app', 'federation_service') OR starts_with(role, 'federation_node')) AND relation <> 'events'
            AND actor IS DISTINCT FROM %s ORDER BY at
    """

    def install(self, superuser_url: str) -> None:
        """Watch a migrated database, and all that are cloned from it."""
        with psycopg.connect(superuser_url) as connection:
            connection.execute(self._INSTALL)
            for table in sorted({*self.TABLES, "events"}):
                connection.execute(f"CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION watch.note()")

    def writes(self, superuser_url: str) -> list[Write]:
        """Return what the program has written, in order."""
        return [Write(*row) for row in kept.connection(superuser_url).execute(self._WRITES, [BY_HAND])]

    def flaws(self, superuser_url: str, *, tampered: bool = False) -> list[str]:
        """Return what is wrong with these writes, and with the payloads of the events unless the log was `tampered` with, each once."""
        flaws = [flaw for write in self.writes(superuser_url) if (flaw := write.flaw()) is not None]
        told = [] if tampered else kept.connection(superuser_url).execute("SELECT type, payload FROM events").fetchall()
        return list(dict.fromkeys([*flaws, *event_schemas.flaws(told)]))

    def forget(self, superuser_url: str) -> None:
        """Begin anew."""
        kept.connection(superuser_url).execute("TRUNCATE watch.writes")


@pytest.fixture(scope="session")
def watch() -> Watch:
    """Knows which writes of the program have no event."""
    return Watch()


class Recorder:
    """The outermost edge: keeps what would have been sent."""

    def __init__(self) -> None:
        self.published: list[uuid.UUID] = []
        self.cancelled: list[uuid.UUID] = []

    def publish(self, unsent: Sequence[Unsent]) -> None:
        self.published.extend(each.execution_id for each in unsent)

    def cancel(self, execution_ids: Sequence[uuid.UUID]) -> None:
        self.cancelled.extend(execution_ids)


@pytest.fixture(scope="session")
def template(postgres, watch: Watch) -> Iterator[str]:
    """The name of a watched database with the whole schema."""
    with postgres.database(owner="federation_owner") as url:
        alembic(postgres.as_role("federation_owner", url), "upgrade", "head")
        watch.install(url)
        yield url.rpartition("/")[2]
    kept.close()


@pytest.fixture(scope="session")
def stock(postgres, template: str) -> Iterator[Stock]:
    """Migrated databases for one test after another."""
    made = Stock(postgres, template)
    yield made
    made.close()


@pytest.fixture
def database(request: pytest.FixtureRequest, postgres, stock: Stock, watch: Watch) -> Iterator[str]:
    """The superuser's URL of a migrated database of this test's own; what the test wrote without an event is an error."""
    with stock.lend() as url:
        yield url
        postgres.start()  # a test may have left it killed
        assert watch.flaws(url, tampered=request.node.get_closest_marker("tampers") is not None) == []


@pytest.fixture
def publisher() -> Recorder:
    """What was handed over for sending."""
    return Recorder()


@contextmanager
def with_agents(postgres, database: str, publisher: Recorder) -> Iterator[Transactions]:
    """Transactions of a door, on a database where ada (lead), bob and dan (developers) and eve (analyst) exist from now on."""
    engine, service = (kept.engine(postgres.as_role(f"federation_{role}", database)) for role in ("app", "service"))
    opened = Transactions(engine, publisher, service=service)
    with opened.begin("test:setup") as session:
        for name, role in {"ada": "lead", "bob": "developer", "dan": "developer", "eve": "analyst"}.items():
            agents.add(session, name, role)
    yield opened


@pytest.fixture
def transactions(postgres, database: str, publisher: Recorder) -> Iterator[Transactions]:
    """Transactions on this test's own database with its four agents."""
    with with_agents(postgres, database, publisher) as opened:
        yield opened


@pytest.fixture
def chartered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Gives this process a charter of the test's own."""
    file = tmp_path / "charter.toml"

    def give(text: str) -> None:
        file.write_text(text)
        monkeypatch.setattr(charter, "path", lambda: file)
        charter.forget()

    yield give
    monkeypatch.undo()
    charter.forget()
