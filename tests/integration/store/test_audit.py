"""No row without an actor, no write without an event of its actor in its own transaction; what only says «I live» is no write."""

import dataclasses
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from federation.services import nodes, tasks
from federation.services.nodes import Announcement
from federation.store import event_log, outbox
from federation.store.models import Base
from federation.store.models.conversations import Conversation
from federation.store.models.events import Event
from federation.store.models.executions import OutboxEntry
from federation.store.models.nodes import Node
from federation.store.models.tasks import AgentTask


def test_each_write_of_the_main_job_has_its_event_and_its_actor(database: str, watch, main_job) -> None:
    main_job()
    writes = watch.writes(database)
    assert [write.flaw() for write in writes if write.flaw()] == []
    assert {write.table for write in writes} == watch.TABLES
    assert len({write.actor for write in writes}) > 5
    with psycopg.connect(database) as connection:
        types = {row[0] for row in connection.execute("SELECT type FROM events")}
    ours = {"execution.delivered", "execution.effect_recorded", "execution.parked", "execution.outcomes_kept", "index.written"}
    assert {*ours, "node.lost", "node.returned", "node.state_changed"} <= types


def test_nothing_but_the_log_itself_is_left_out(watch) -> None:
    assert Base.metadata.tables.keys() - watch.TABLES == {"events", "streams", "allowances", "event_order", "event_relay", "seals"}


# Who writes what, and tells nobody.
UNTOLD = (
    ("ada", insert(Conversation).values(id="x", created_by="ada")),
    ("ada", update(AgentTask).values(completed_at=None)),
    ("ada", update(AgentTask).values(handed_to="bob")),
    ("ada", delete(OutboxEntry)),
    ("service:outbox", update(OutboxEntry).values(waiting_for="a node")),
    ("node:aorus", update(Node).values(concurrency=9, load={})),
)


def test_each_write_without_an_event_is_seen(database: str, transactions, watch, main_job) -> None:
    main_job()
    assert watch.flaws(database) == []
    with transactions.begin("ada") as session:
        outbox.record(session, "some.task", {})
    for who, write in reversed(UNTOLD):
        with transactions.begin(who) as session:
            session.execute(write)
        assert any(f"by {who}: no event" in flaw for flaw in watch.flaws(database)), write
        watch.forget(database)


def test_an_event_of_another_actor_or_transaction_is_none(database: str, transactions, watch) -> None:
    with transactions.begin("ada") as session:
        task = tasks.delegate(session, "x")
    with transactions.begin("bob") as session:
        session.execute(update(AgentTask).where(AgentTask.id == task.id).values(handed_to="bob"))
    with transactions.begin("bob") as session:
        event_log.append(session, "task.changed", f"task:{task.id}", payload={}, conversation_id=task.conversation_id)
    assert watch.flaws(database) == ["UPDATE of agent_tasks by bob: no event of this actor in the transaction; changed: handed_to, updated_by"]
    watch.forget(database)


def test_a_row_that_names_another_than_its_writer_is_seen(database: str, transactions, watch) -> None:
    # An agent's would be refused.
    with transactions.begin("service:beat") as session:
        session.execute(insert(Conversation).values(id="x", created_by="service:beat", updated_by="bob"))
    assert watch.flaws(database) == ["INSERT of conversations by service:beat: the row says that bob wrote it"]
    watch.forget(database)


def test_a_write_outside_of_our_transactions_is_refused_for_want_of_an_actor(transactions) -> None:
    with transactions.begin("ada") as session:
        identity = outbox.record(session, "some.task", {})
    # The connection has had an actor, for a transaction that is over.
    with transactions.service.connect() as connection, pytest.raises(IntegrityError, match="updated_by"):
        connection.execute(update(OutboxEntry).where(OutboxEntry.execution_id == identity).values(attempts=1))


def _announced(transactions) -> Announcement:
    node = Announcement("taichi", "lead", (), (), (), (), (), 1, "taichi@host", 1, uuid.uuid4(), simulated=False)
    with transactions.begin("node:taichi") as session:
        nodes.announce(session, node)
    return node


def _told(transactions) -> list[tuple[str, str]]:
    with transactions.begin("test:hand") as session:
        return [(row.type, row.actor) for row in session.scalars(select(Event).where(Event.stream == "node:taichi").order_by(Event.position))]


def test_a_node_that_falls_silent_and_comes_back_is_told_once_each(transactions) -> None:
    node = _announced(transactions)

    def beat() -> bool:
        with transactions.begin("node:taichi") as session:
            return nodes.sign_of_life(session, "taichi", node.incarnation, load={})

    def look(stale_s: float) -> list[str]:
        with transactions.begin("service:beat") as session:
            return nodes.record_lost(session, stale_s=stale_s)

    announced = [("node.announced", "node:taichi")]
    assert (beat(), look(60), _told(transactions)) == (True, [], announced)
    assert [look(0), look(0)] == [["taichi"], []]
    assert _told(transactions) == [*announced, ("node.lost", "service:beat")]
    assert [beat(), beat(), beat()] == [True] * 3
    assert _told(transactions) == [*announced, ("node.lost", "service:beat"), ("node.returned", "node:taichi")]
    assert look(0) == ["taichi"], "what came back may be lost again"


def test_of_many_who_notice_at_once_one_tells(transactions) -> None:
    node = _announced(transactions)

    def notice(_: int) -> None:
        with transactions.begin("service:beat") as session:
            nodes.record_lost(session, stale_s=0)

    def beat(_: int) -> None:
        with transactions.begin("node:taichi") as session:
            nodes.sign_of_life(session, "taichi", node.incarnation, load={})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(notice, range(16)))
        list(pool.map(beat, range(16)))
    assert [type_ for type_, _ in _told(transactions)] == ["node.announced", "node.lost", "node.returned"]


@pytest.mark.parametrize("end", ["left", "announced anew"])
def test_a_node_that_left_or_started_anew_is_not_lost(transactions, end: str) -> None:
    node = _announced(transactions)
    with transactions.begin("service:beat") as session:
        nodes.record_lost(session, stale_s=0)
    with transactions.begin("node:taichi") as session:
        if end == "left":
            nodes.leave(session, "taichi", node.incarnation)
        else:
            nodes.announce(session, node)
    with transactions.begin("service:beat") as session:
        assert nodes.record_lost(session, stale_s=60 if end == "announced anew" else 0) == []
        assert session.scalar(select(Node.lost_at)) is None or end == "left"


@pytest.mark.parametrize("before", ["silent", "left", "known to be lost", "the same worker"])
def test_a_worker_that_is_replaced_without_a_good_bye_is_told_lost_once(transactions, before: str) -> None:
    former = _announced(transactions)
    with transactions.begin("node:taichi") as session:
        if before == "left":
            nodes.leave(session, "taichi", former.incarnation)
        if before == "known to be lost":
            nodes.record_lost(session, stale_s=0)
    with transactions.begin("test:hand") as session:
        seen = session.scalar(select(Node.last_seen_at))
    latter = former if before == "the same worker" else dataclasses.replace(former, incarnation=uuid.uuid4())
    with transactions.begin("node:taichi") as session:
        assert nodes.announce(session, latter)
    with transactions.begin("test:hand") as session:
        query = select(Event.type, Event.payload).where(Event.stream == "node:taichi", Event.type.in_(["node.lost", "node.announced"]))
        told = session.execute(query.order_by(Event.position)).all()
        gone = session.execute(text("SELECT at FROM cop_history WHERE data->>'gone' = 'true'")).scalars().all()
    announced = ["node.announced", "node.announced"]
    assert [type_ for type_, _ in told] == (announced if before in ("left", "the same worker") else ["node.announced", "node.lost", "node.announced"])
    if before == "silent":
        assert told[1].payload == {
            "version": 1,
            "incarnation": str(former.incarnation),
            "last_seen_at": seen.isoformat(),
            "replaced_by": str(latter.incarnation),
        }
        assert gone == [seen], "the past has it gone since its last sign of life"


def test_parking_is_told_once_under_the_trace_of_its_request(transactions) -> None:
    with transactions.begin("ada", trace_id="ab" * 16) as session:
        identity = outbox.record(session, "some.task", {})
    for reason in ("no node", "no node, still", None, "no node"):
        with transactions.begin("service:outbox") as session:
            outbox.record_unsent(session, {identity: reason}, tries=1)
    with transactions.begin("test:hand") as session:
        told = session.execute(text("SELECT actor, trace_id, payload->>'waiting_for' FROM events WHERE type = 'execution.parked' ORDER BY position"))
        assert [tuple(row) for row in told] == [("service:outbox", "ab" * 16, "no node")] * 2, "it had a node in between"
        assert session.scalar(select(OutboxEntry.attempts)) == 4
