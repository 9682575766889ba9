"""Nodes come, go and die while work is recorded, swept and moved: it is in one place at each moment, the right one, and none of it is lost."""

import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from federation.broker.moving import waiting_messages
from federation.delivery.rebalance import Rebalancer
from federation.services import executions, nodes
from federation.services.nodes import Announcement

World = Any

# The nodes here give no signs of life; only the test lets one die, by an hour of silence.
STALE_S = 1800
NAMES = ("one", "two", "three")
ROLES = {"one": "lead", "two": "developer", "three": "developer"}
TAGS = {"one": ("big",), "two": ("big",), "three": ()}
NEEDS: tuple[dict[str, Any], ...] = ({}, {"role": "lead"}, {"role": "developer"}, {"tags": ["big"]}, {"node": "three"}, {"role": "analyst"})


@dataclass(frozen=True)
class Turn:
    """What happens, in this order: work is wanted, nodes come and die, beat acts or is late, some work is done."""

    wanted: list[dict[str, Any]]
    comes: str
    dies: str
    beat: bool
    done_by: str


turns = st.builds(
    Turn,
    wanted=st.lists(st.sampled_from(NEEDS), min_size=2, max_size=6),
    comes=st.sampled_from(NAMES),
    dies=st.sampled_from(NAMES),
    beat=st.booleans(),
    done_by=st.sampled_from(NAMES),
)


class Story:
    """Real outbox, real queues, nodes without workers; what happens, and what must be true after each turn."""

    def __init__(self, world: World) -> None:
        with psycopg.connect(world.owner_url) as connection:
            connection.execute("TRUNCATE nodes, outbox, executions, celery_results CASCADE")
        self.world, self.tag = world, uuid.uuid4().hex[:6]
        self.asked: dict[uuid.UUID, dict[str, Any]] = {}
        self.finished: set[uuid.UUID] = set()
        self.alive: set[str] = set()
        self.rebalancer = Rebalancer(world.app, world.transactions, stale_s=STALE_S)
        self.moved = 0

    def turn(self, turn: Turn) -> None:
        for needs in turn.wanted:
            wanted = {**needs, "node": self.name("three")} if "node" in needs else needs
            self.asked[self.world.record("tests.nobody", {}, **wanted)] = needs
        self.check()
        self.comes(turn.comes)
        self.dies(turn.dies)
        if turn.beat:
            self.beat()
            self.check_placed()
        self.check()
        self.work(turn.done_by)
        self.check()

    def name(self, node: str) -> str:
        return f"{node}-{self.tag}"

    def comes(self, node: str) -> None:
        with self.world.transactions.begin("cli:tester") as session:
            made = Announcement(self.name(node), ROLES[node], TAGS[node], (), (), (), (), 2, "host", 1, uuid.uuid4(), simulated=False)
            nodes.announce(session, made)
        self.alive.add(node)

    def dies(self, node: str) -> None:
        with self.world.transactions.begin("test:hand") as session:
            session.execute(text("UPDATE nodes SET last_seen_at = now() - interval '1 hour' WHERE name = :name"), {"name": self.name(node)})
        self.alive.discard(node)

    def beat(self) -> None:
        with self.world.transactions.begin("cli:tester") as session:
            known = nodes.views(session, stale_s=STALE_S)
        self.moved += self.rebalancer.rebalance(known)
        self.world.publisher.sweep()

    def work(self, node: str) -> None:
        with self.world.app.connection_for_write() as connection, waiting_messages(connection, self.name(node), limit=2) as found:
            for message in found:
                identity = uuid.UUID(str(message.headers["id"]))
                with self.world.transactions.begin("cli:tester") as session:
                    ended = "INSERT INTO celery_results (task_id, state, date_done) VALUES (:id, 'SUCCESS', now())"
                    session.execute(text(ended), {"id": str(identity)})
                message.drop()
                self.finished.add(identity)

    def check(self) -> None:
        """Each is in one place, and that is one where it may be."""
        places = Counter({row[0]: 1 for row in self.world.rows("SELECT execution_id FROM outbox")})
        for node in NAMES:
            for identity in queued(self.world, self.name(node)):
                places[identity] += 1
                assert fits(self.asked[identity], node), "a queue has what its node cannot do"
        assert set(places) == self.asked.keys() - self.finished
        assert set(places.values()) <= {1}

    def check_placed(self) -> None:
        """After beat's turn nothing waits that a living node could do, and nothing lies with a dead one but what was asked of it by name."""
        for identity in self.asked.keys() - self.finished:
            needs = self.asked[identity]
            if "node" in needs:
                continue
            state = self.world.state(identity)
            able = {self.name(node) for node in self.alive if fits(needs, node)}
            assert (state.node in able) if able else state.state is executions.State.UNPLACED


@pytest.mark.parametrize("stories", [3, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_parking_and_unparking_lose_nothing(world: World, stories: int) -> None:
    moved = 0
    world.trust_nodes(STALE_S)

    @settings(max_examples=stories, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate, Phase.shrink])
    @given(st.lists(turns, min_size=3, max_size=6))
    # What chance may leave out: one comes to work that waits, and dies with it when another is there.
    @example([Turn([{}, {"role": "lead"}], "one", "two", True, "three"), Turn([{}, {"tags": ["big"]}], "two", "one", True, "two")])
    def told(story: list[Turn]) -> None:
        nonlocal moved
        made = Story(world)
        for turn in story:
            made.turn(turn)
        moved += made.moved

    told()
    assert moved > 0


def fits(needs: dict[str, Any], node: str) -> bool:
    return needs.get("role", ROLES[node]) == ROLES[node] and set(needs.get("tags", ())) <= set(TAGS[node]) and needs.get("node", node) == node


def queued(world: World, node: str) -> list[uuid.UUID]:
    """The executions whose messages lie in a node's queue; they stay there."""
    with world.app.connection_for_write() as connection, waiting_messages(connection, node, limit=1000) as found:
        return [uuid.UUID(str(message.headers["id"])) for message in found]
