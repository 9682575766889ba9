"""The states of a task: whatever is done to it by whomever, each event moves it as the patterns say, and the last one says where it stands."""

import itertools
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import errors
from sqlalchemy import select, text

from federation.errors import FederationError
from federation.services import approvals, assignments, escalations, task_claims, task_ends, tasks
from federation.services.approvals import Decision
from federation.store.models.events import Event
from federation.store.models.tasks import ENDED, MOVES, AgentTask, TaskStatus
from federation.transaction import Transactions

AGENTS = ("ada", "bob", "dan")
# Which event may find a task where, and where it leaves it; `None` is before its first one.
OPEN = {"pending", "assigned", "running"}
SPEC: dict[str, set[tuple[str | None, str]]] = {
    "task.created": {(None, "awaiting_approval"), (None, "pending"), (None, "assigned")},
    "task.approved": {("awaiting_approval", "pending"), ("awaiting_approval", "assigned")},
    "task.rejected": {("awaiting_approval", "cancelled")},
    # To the one agent whose task it is; or to the node that begins it.
    "task.assigned": {("assigned", "assigned"), ("pending", "running"), ("running", "running")},
    "task.claimed": {(each, "running") for each in OPEN},
    "task.released": {("running", "pending"), ("running", "assigned")},
    "task.handed_over": {(each, "assigned") for each in OPEN},
    "task.escalated": {(each, each) for each in OPEN},
    "task.completed": {("running", "completed")},
    "task.failed": {("running", "failed"), ("pending", "failed")},
    "task.reopened": {("failed", "pending")},
    "task.cancelled": {(each, "cancelled") for each in {*OPEN, "awaiting_approval"}},
    "task.expired": {(each, "expired") for each in OPEN},
}


class Life:
    """One task, what is done to it, and the tokens that were won."""

    def __init__(self, transactions: Transactions, number: int, **terms: Any) -> None:
        self.transactions, self.slug = transactions, f"life-{number}"
        self.tokens: dict[str, int] = {}
        with transactions.begin("ada") as session:
            self.task = tasks.delegate(session, "Live", slug=self.slug, conversation_id="lives", timeout_s=86_400, **terms)
            # So that each may try.
            assignments.conversations.open_for(session, "lives", AGENTS)

    def do(self, what: str, who: str) -> None:
        """Do it; who may not, or comes too late, is refused, and nothing has happened."""
        with suppress(FederationError):
            getattr(self, f"_{what}")(who)

    def _acting(self, who: str, work: Callable[..., Any]) -> Any:
        with self.transactions.begin(who) as session:
            return work(session)

    def _claim(self, who: str) -> None:
        outcome = self._acting(who, lambda session: task_claims.claim(session, self.slug, description="", ttl_s=3600))
        if outcome.claimed:
            self.tokens[who] = outcome.fencing_token

    def _release(self, who: str) -> None:
        self._acting(who, lambda session: task_claims.release(session, self.slug))

    def _complete(self, who: str, *, success: bool = True) -> None:
        token = self.tokens.get(who, 1)
        self._acting(who, lambda session: task_claims.complete(session, self.slug, fencing_token=token, result={"by": who}, success=success))

    def _fail(self, who: str) -> None:
        self._complete(who, success=False)

    def _cancel(self, who: str) -> None:
        self._acting(who, lambda session: task_ends.cancel(session, self.slug))

    def _approve(self, who: str) -> None:
        self._acting("cli:root", lambda session: approvals.settle(session, session.get_one(AgentTask, self.task.id), Decision.APPROVE, reason=""))

    def _reject(self, who: str) -> None:
        self._acting("cli:root", lambda session: approvals.settle(session, session.get_one(AgentTask, self.task.id), Decision.REJECT, reason="no"))

    def _hand_over(self, who: str) -> None:
        self._acting("ada", lambda session: assignments.assign(session, who, "developer", self.slug, conversation_id="lives"))

    def _lapse(self, who: str) -> None:
        late = "UPDATE claims SET expires_at = clock_timestamp() - interval '2 hours' WHERE resource = 'task:' || CAST(:id AS text)"
        self._acting("test:hand", lambda session: session.execute(text(late), {"id": str(self.task.id)}))

    def _expire(self, who: str) -> None:
        over = "UPDATE agent_tasks SET expires_at = clock_timestamp() WHERE id = :id AND expires_at IS NOT NULL"
        self._acting("test:hand", lambda session: session.execute(text(over), {"id": self.task.id}))
        self._acting("service:beat", lambda session: [task_ends.expire(session, each) for each in task_ends.overdue(session)])

    def _escalate(self, who: str) -> None:
        late = "UPDATE agent_tasks SET waiting_since = waiting_since - interval '2 hours' WHERE id = :id"
        self._acting("test:hand", lambda session: session.execute(text(late), {"id": self.task.id}))
        after = timedelta(hours=1)
        self._acting(
            "service:beat", lambda session: [escalations.escalate(session, each, after=after) for each in escalations.due(session, after=after)]
        )

    def _start(self, who: str) -> None:
        if self.task.executor == "node":
            self._acting("node:aorus", lambda session: task_ends.start_on_node(session, self.task.id, "aorus"))

    def _end(self, who: str) -> None:
        # Only what was begun has an end that is a success.
        if self.task.executor == "node" and self.events()[-1].payload["status"] == "running":
            self._acting("node:aorus", lambda session: task_ends.end_on_node(session, self.task.id, result={"text": "done"}))

    def _break(self, who: str) -> None:
        if self.task.executor == "node":
            self._acting("node:aorus", lambda session: task_ends.end_on_node(session, self.task.id, result={"error": "lost"}, success=False))

    def _reopen(self, who: str) -> None:
        if self.task.executor == "node":
            self._acting("cli:root", lambda session: task_ends.reopen(session, self.task.id))

    def events(self) -> list[Event]:
        with self.transactions.begin("test:hand") as session:
            return list(session.scalars(select(Event).where(Event.stream == f"task:{self.task.id}").order_by(Event.position)))

    def check(self) -> str:
        """Hold the events against what may follow on what, and the row against the last of them; return where it stands."""
        told = self.events()
        before: str | None = None
        for event in told:
            after = event.payload["status"]
            assert (before, after) in SPEC[event.type], (before, event.type, after, [each.type for each in told])
            assert before in {None, after} or TaskStatus(after) in MOVES[TaskStatus(before)]
            before = after
        with self.transactions.begin("test:hand") as session:
            row = session.get_one(AgentTask, self.task.id)
            assert (row.status, row.assigned_to) == (told[-1].payload["status"], told[-1].payload["assigned_to"])
            assert (row.completed_at is not None) == (row.status in ENDED)
            assert (row.result is not None) == (row.status in ENDED)
        return str(row.status)


DEEDS = tuple(sorted(name[1:] for name in vars(Life) if name.startswith("_") and not name.startswith(("__", "_acting"))))
TERMS = st.sampled_from([{}, {"agent": "bob"}, {"executor": "node"}, {"requires_approval": True}, {"executor": "node", "requires_approval": True}])
_numbers = itertools.count()


def _story(*deeds: str) -> list[tuple[str, str]]:
    return [(deed.partition(" ")[0], deed.partition(" ")[2] or "bob") for deed in deeds]


@pytest.mark.parametrize("chances", [15, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_each_event_moves_a_task_as_the_patterns_say_and_the_last_one_says_where_it_stands(transactions: Transactions, chances: int) -> None:
    reached = set()

    @settings(max_examples=chances, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(terms=TERMS, deeds=st.lists(st.tuples(st.sampled_from(DEEDS), st.sampled_from(AGENTS)), max_size=12))
    # One way to each end, and the turns that chance seldom takes.
    @example(terms={}, deeds=_story("claim", "complete"))
    @example(terms={}, deeds=_story("claim", "fail"))
    @example(terms={}, deeds=_story("claim", "lapse", "claim dan", "release dan", "claim bob", "complete bob"))
    @example(terms={"agent": "bob"}, deeds=_story("claim dan", "escalate", "claim ada", "release ada", "hand_over dan", "claim bob", "claim dan"))
    @example(terms={"requires_approval": True}, deeds=_story("claim", "expire", "approve", "expire", "claim"))
    @example(terms={"requires_approval": True}, deeds=_story("reject", "approve", "cancel ada"))
    @example(terms={"executor": "node"}, deeds=_story("start", "start", "end", "break", "reopen", "cancel ada"))
    @example(terms={"executor": "node"}, deeds=_story("break", "reopen", "start", "break", "reopen", "expire"))
    def lives(terms: dict[str, Any], deeds: list[tuple[str, str]]) -> None:
        life = Life(transactions, next(_numbers), **terms)
        reached.add(life.check())
        for what, who in deeds:
            life.do(what, who)
            reached.add(life.check())

    lives()
    assert reached == set(TaskStatus)


@pytest.mark.parametrize("former", TaskStatus)
def test_postgresql_lets_no_status_follow_that_may_not(database: str, transactions: Transactions, former: TaskStatus) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="t")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT set_config('federation.actor', 'test:hand', false)")
        for wanted in TaskStatus:
            connection.execute("SET session_replication_role = replica")
            connection.execute("UPDATE agent_tasks SET status = %s", [former])
            connection.execute("RESET session_replication_role")
            if wanted in {former, *MOVES[former]}:
                connection.execute("UPDATE agent_tasks SET status = %s", [wanted])
                continue
            with pytest.raises(errors.CheckViolation, match=f"a task that is {former} cannot become {wanted}"):
                connection.execute("UPDATE agent_tasks SET status = %s", [wanted])
