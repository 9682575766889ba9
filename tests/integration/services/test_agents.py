"""Who calls is known from the token alone: unknown, expired and revoked ones open nothing."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from federation.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from federation.services import agents
from federation.store.models.agents import AgentToken


def test_a_token_tells_who_calls_and_is_stored_as_a_hash_only(transactions) -> None:
    with transactions.begin("cli:root") as session:
        token = agents.add(session, "ops/deploy-validator", "analyst")
    with transactions.begin("frontdoor") as session:
        assert agents.authenticate(session, token) == agents.Caller("ops/deploy-validator", "analyst")
        stored = session.scalars(select(AgentToken.token_sha256)).all()
    assert token.encode() not in stored
    assert all(len(digest) == 32 for digest in stored)


@pytest.mark.parametrize("spoil", ["unknown", "expired", "revoked", "rotated"])
def test_a_token_that_is_not_valid_opens_nothing(transactions, spoil: str) -> None:
    with transactions.begin("cli:root") as session:
        token = agents.add(session, "zoe", "observer", expires_at=datetime.now(UTC) - timedelta(seconds=1) if spoil == "expired" else None)
        if spoil == "revoked":
            assert agents.revoke(session, "zoe") == 1
        if spoil == "rotated":
            fresh = agents.rotate(session, "zoe")
            assert agents.authenticate(session, fresh).name == "zoe"
    with pytest.raises(Unauthenticated), transactions.begin("frontdoor") as session:
        agents.authenticate(session, "fed_wrong" if spoil == "unknown" else token)


@pytest.mark.parametrize(
    ("name", "role", "error", "says"),
    [
        ("ada", "lead", Conflict, "agent 'ada' exists already"),
        ("zoe", "developr", NotFound, "no role 'developr'; nearest: developer"),
        ("events", "lead", InvalidInput, "name: got 'events'"),
        ("a b", "lead", InvalidInput, "name: got 'a b'"),
        ("direct:x", "lead", InvalidInput, "without ':'"),
    ],
)
def test_a_bad_name_or_role_is_named(transactions, name: str, role: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says), transactions.begin("cli:root") as session:
        agents.add(session, name, role)


def test_of_two_who_add_the_same_agent_at_once_one_does(transactions) -> None:
    def add(_: int) -> str:
        try:
            with transactions.begin("cli:root") as session:
                return agents.add(session, "zoe", "observer")
        except Conflict as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(add, range(8)))
    assert sum(answer.startswith("fed_") for answer in told) == 1
    assert sum("exists already" in answer for answer in told) == 7


def test_one_token_is_left_of_two_rotations_at_once(transactions) -> None:
    def rotate(_: int) -> str:
        with transactions.begin("cli:root") as session:
            return agents.rotate(session, "bob")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(rotate, range(8)))
    with transactions.begin("test") as session:
        valid = select(func.count()).where(AgentToken.agent == "bob", AgentToken.revoked_at.is_(None))
        assert session.scalar(valid) == 1
