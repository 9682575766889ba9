"""Who calls is known from the token alone: unknown, expired and revoked ones open nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

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
