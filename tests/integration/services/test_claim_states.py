"""Claims, their line and their ends in any order, against a model in memory."""

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from federation.errors import Refused
from federation.services import resource_claims
from federation.services.resources import parsed
from federation.store.context import context
from federation.transaction import Transactions

AGENTS = st.sampled_from(["ada", "bob", "dan"])
PATHS = st.sampled_from(["a", "a/b", "a/c", "a/**", "a/b/**", "d", "**"])
_numbers = itertools.count()


@dataclass
class Row:
    """A claim as the model has it; `over`: it has lapsed, or was given back."""

    holder: str
    token: int
    lapsed: bool = False
    released: bool = False

    @property
    def held(self) -> bool:
        return not self.lapsed and not self.released


@dataclass
class Place:
    """A place in the line."""

    resource: str
    holder: str
    present: bool = True


def overlap(one: str, other: str) -> bool:
    return parsed(one).overlaps(parsed(other))


def test_claims_and_their_line_behave_as_the_model(transactions: Transactions) -> None:
    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            # A kind of its own, so that no example meets what another has left.
            self.kind = f"model{next(_numbers)}"
            self.rows: dict[str, Row] = {}
            self.line: list[Place] = []
            # The token that a claim of somebody had when it was won last, by agent and name.
            self.won: dict[tuple[str, str], int] = {}

        def near(self, resource: str) -> list[Row]:
            return [row for name, row in self.rows.items() if overlap(name, resource)]

        def ahead(self, agent: str, resource: str) -> list[Place]:
            found = []
            for place in self.line:
                if (place.resource, place.holder) == (resource, agent):
                    break
                mine = any(row.held and row.holder == agent and overlap(name, place.resource) for name, row in self.rows.items())
                if place.present and place.holder != agent and overlap(place.resource, resource) and not mine:
                    found.append(place)
            return found

        def next_ones(self, resource: str) -> set[str]:
            present = [place for place in self.line if place.present]
            return {
                place.holder
                for number, place in enumerate(present)
                if overlap(place.resource, resource)
                and not any(other.holder != place.holder and overlap(other.resource, place.resource) for other in present[:number])
            }

        @rule(agent=AGENTS, path=PATHS, waits=st.booleans())
        def acquire(self, agent: str, path: str, waits: bool) -> None:
            resource = f"{self.kind}:{path}"
            with transactions.begin(agent) as session:
                told = resource_claims.take(session, resource, ttl_s=600, present_s=600 if waits else None)
            own = self.rows.get(resource)
            renews = own is not None and own.held and own.holder == agent
            blockers = {row.holder for row in self.near(resource) if row.held and row.holder != agent}
            ahead = self.ahead(agent, resource)
            if not renews and (blockers or ahead):
                assert not told.claimed
                assert told.holder in (blockers or {None})
                assert told.place == (len(ahead) + 1 if waits else None)
                if waits:
                    place = next((each for each in self.line if (each.resource, each.holder) == (resource, agent)), None)
                    if place is None:
                        self.line.append(Place(resource, agent))
                    else:
                        place.present = True
                return
            token = own.token if renews and own else 1 + max((row.token for row in self.near(resource)), default=0)
            assert (told.claimed, told.fencing_token, told.holder) == (True, token, agent)
            for name, row in self.rows.items():
                if name != resource and row.lapsed and not row.released and row.holder != agent and overlap(name, resource):
                    row.released = True
            self.rows[resource] = Row(agent, token)
            self.won[agent, resource] = token
            self.line = [each for each in self.line if (each.resource, each.holder) != (resource, agent)]

        @rule(agent=AGENTS, path=PATHS)
        def extend(self, agent: str, path: str) -> None:
            resource = f"{self.kind}:{path}"
            token = self.won.get((agent, resource), 1)
            row = self.rows.get(resource)
            if row is not None and row.held and (row.holder, row.token) == (agent, token):
                with transactions.begin(agent) as session:
                    assert resource_claims.take(session, resource, ttl_s=600, token=token).fencing_token == token
                return
            with pytest.raises(Refused), transactions.begin(agent) as session:
                resource_claims.take(session, resource, ttl_s=600, token=token)

        @rule(agent=AGENTS, path=PATHS)
        def release(self, agent: str, path: str) -> None:
            resource = f"{self.kind}:{path}"
            row = self.rows.get(resource)
            released = row is not None and row.held and row.holder == agent
            before = self.next_ones(resource)
            leaves = any((each.resource, each.holder) == (resource, agent) for each in self.line)
            self.line = [each for each in self.line if (each.resource, each.holder) != (resource, agent)]
            with transactions.begin(agent) as session:
                given = resource_claims.give_back(session, resource)
                woken = {notice.removeprefix("line:") for notice in context(session).notices if notice.startswith("line:")}
            assert (given.released, given.left_line) == (released, leaves)
            assert woken == (before if released else set()) | (self.next_ones(resource) if leaves else set())
            if released and row is not None:
                row.released = True

        @rule(path=PATHS)
        def expire(self, path: str) -> None:
            resource = f"{self.kind}:{path}"
            row = self.rows.get(resource)
            if row is not None and row.held:
                with transactions.begin("test:hand") as session:
                    session.execute(text("UPDATE claims SET expires_at = clock_timestamp() WHERE resource = :resource"), {"resource": resource})
                row.lapsed = True

        @rule(agent=AGENTS)
        def die_in_line(self, agent: str) -> None:
            with transactions.begin("test:hand") as session:
                gone = "UPDATE claim_waiters SET present_until = clock_timestamp() WHERE holder = :holder AND resource LIKE :ours"
                session.execute(text(gone), {"holder": agent, "ours": f"{self.kind}:%"})
            for place in self.line:
                place.present = place.present and place.holder != agent

        @rule(agent=AGENTS, path=st.sampled_from(["a", "a/b", "a/c", "d"]), token=st.integers(1, 8))
        def write(self, agent: str, path: str, token: int) -> None:
            resource = f"{self.kind}:{path}"
            may = any(
                row.held and (row.holder, row.token) == (agent, token) and parsed(name).covers(parsed(resource)) for name, row in self.rows.items()
            )
            if not may:
                with pytest.raises(Refused), transactions.begin(agent) as session:
                    resource_claims.check(session, resource, token)
                return
            with transactions.begin(agent) as session:
                resource_claims.check(session, resource, token)

        @invariant()
        def what_stands_is_what_the_model_has(self) -> None:
            with transactions.begin("test:hand") as session:
                query = (
                    "SELECT resource, holder, fencing_token FROM claims "
                    "WHERE resource LIKE :ours AND released_at IS NULL AND expires_at > clock_timestamp()"
                )
                rows: list[Any] = [tuple(row) for row in session.execute(text(query), {"ours": f"{self.kind}:%"})]
            assert sorted(rows) == sorted((name, row.holder, row.token) for name, row in self.rows.items() if row.held)
            for one, other in itertools.combinations(rows, 2):
                assert one[1] == other[1] or not overlap(one[0], other[0]), "two hold what overlaps"

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    )
