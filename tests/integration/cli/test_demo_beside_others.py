"""The demo in a federation that others use: it takes no agent, no conversation and no process that is not its own."""

import asyncio
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from federation.cli.demo import faults, people
from federation.cli.demo.stage import ADA, CONVERSATION, DemoFailed, Stage
from federation.local import children, state
from federation.local.home import Home
from federation.local.state import PartState, PartView, Phase, View
from federation.services import agents, messages
from federation.settings import load
from federation.store import outbox
from federation.transaction import Transactions


@pytest.fixture
def stage(postgres: Any, database: str, tmp_path: Path) -> Stage:
    return Stage(load(data_dir=tmp_path, database_auditor_url=postgres.as_role("federation_auditor", database)), datetime.now(UTC), AsyncExitStack())


def test_what_is_waited_for_in_vain_is_told_with_what_has_no_end(stage: Stage, transactions: Transactions) -> None:
    with transactions.begin("cli:nora") as session:
        unsent, sent = (outbox.record(session, f"tests.{name}", {}) for name in ("unsent", "sent"))
        session.execute(text("UPDATE executions SET node = 'aorus', sent_at = clock_timestamp() WHERE id = :id"), {"id": sent})
        session.execute(text("DELETE FROM outbox WHERE execution_id = :id"), {"id": sent})
    with pytest.raises(DemoFailed, match="the answer: not seen within 0 s") as told:
        asyncio.run(stage.until("the answer", lambda: None, within_s=0))
    assert f"tests.unsent {unsent} was not sent, and waits for ActiveMQ" in str(told.value)
    assert re.search(rf"tests\.sent {sent} was sent to aorus at \S+ and delivered 0 times", str(told.value))


def test_what_still_moves_is_waited_for(stage: Stage) -> None:
    looks = iter([None, None, None, "there"])
    numbers = itertools.count()
    assert asyncio.run(stage.until("the answer", lambda: next(looks), within_s=0.1, moves=lambda: next(numbers))) == "there"


def test_agent_that_a_person_added_keeps_its_token(transactions: Transactions) -> None:
    with transactions.begin("cli:nora") as session:
        token = agents.add(session, ADA, "lead")
    with pytest.raises(DemoFailed, match=f"{ADA} is not the demo's: cli:nora added it"), transactions.begin(people.ACTOR) as session:
        people.token(session, ADA, "lead")
    with transactions.begin("test:hand") as session:
        assert agents.authenticate(session, token).name == ADA


def test_agents_of_the_demo_get_fresh_tokens(transactions: Transactions) -> None:
    for _ in range(2):
        with transactions.begin(people.ACTOR) as session:
            token = people.token(session, ADA, "lead")
    with transactions.begin("test:hand") as session:
        assert agents.authenticate(session, token).name == ADA


def test_conversation_of_others_is_left_alone(stage: Stage, transactions: Transactions) -> None:
    people.leave_others_alone(stage)
    with transactions.begin("bob") as session:
        messages.send(session, "Ours.", to="dan", conversation_id=CONVERSATION)
    with pytest.raises(DemoFailed, match=f"{CONVERSATION} belongs to bob, dan"):
        people.leave_others_alone(stage)


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as started:
        yield started
        started.kill()


def runs(stage: Stage, pid: int) -> None:
    """Make it look as if a supervisor ran, whose node aorus is this process."""
    home = Home(stage.settings.data_dir)
    home.create()
    part = PartView(faults.NODE, PartState.RUNNING, pid, children.birth(pid), 0, None, 0.0)
    state.write(home, View(os.getpid(), children.birth(os.getpid()), Phase.RUNNING, None, [part]))


def test_process_that_is_no_worker_of_ours_is_not_killed(stage: Stage, process: "subprocess.Popen[bytes]") -> None:
    # A pid that another machine's worker told is somebody else's here.
    with pytest.raises(DemoFailed, match="is not a worker of the federation"):
        faults.refuse_a_stranger(stage, process.pid, "aorus@elsewhere")
    runs(stage, os.getpid())
    with pytest.raises(DemoFailed, match="is not a worker of the federation"):
        faults.refuse_a_stranger(stage, process.pid, "aorus@elsewhere")
    runs(stage, process.pid)
    faults.refuse_a_stranger(stage, process.pid, "aorus@here")
    assert process.poll() is None


def test_node_is_not_killed_while_it_works_for_others(stage: Stage, database: str) -> None:
    looks = []

    class Finishing(Stage):
        """The work of another ends when the demo has seen it."""

        def one(self, query: str, *values: Any) -> Any:
            looks.append(found := super().one(query, *values))
            with psycopg.connect(database) as connection:
                connection.execute("update executions set outcome = 'SUCCESS', ended_at = now()")
            return found

    with psycopg.connect(database) as connection:
        connection.execute(
            """
            with made as (
                insert into executions (id, task_name, kwargs, requirements, priority, actor, updated_by, trace_id, node, sent_at)
                values (gen_random_uuid(), 'federation.tasks.inference.complete', '{}', '{}', 5, 'bob', 'bob', 'x', 'aorus', now()) returning id
            )
            insert into execution_deliveries (execution_id, number, task_name, worker, pid, redelivered, actor)
            select id, 1, 'federation.tasks.inference.complete', 'aorus@here', 1, false, 'node:aorus' from made
            """
        )
    asyncio.run(faults.wait_until_idle(Finishing(stage.settings, stage.started_at, stage.stack)))
    assert looks == [1, 0]
