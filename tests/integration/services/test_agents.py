"""Who calls is known from the token alone: unknown, expired and revoked ones open nothing."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from federation.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from federation.local import checks
from federation.services import agents
from federation.settings import Settings
from federation.store.models.agents import AgentToken


def test_a_token_tells_who_calls_and_is_stored_as_a_hash_only(transactions) -> None:
    with transactions.begin("cli:root") as session:
        token = agents.add(session, "ops/deploy-validator", "analyst")
    with transactions.begin("service:door") as session:
        assert agents.authenticate(session, token) == agents.Caller("ops/deploy-validator", "analyst")
        stored = session.scalars(select(AgentToken.token_sha256)).all()
    assert token.encode() not in stored
    assert all(len(digest) == 32 for digest in stored)


@pytest.mark.parametrize("spoil", ["unknown", "expired", "revoked", "rotated"])
def test_a_token_that_is_not_valid_opens_nothing(transactions, spoil: str) -> None:
    with transactions.begin("cli:root") as session:
        token = agents.add(session, "zoe", "observer", lasting=timedelta(seconds=-1) if spoil == "expired" else None)
        if spoil == "revoked":
            assert agents.revoke(session, "zoe") == 1
        if spoil == "rotated":
            fresh = agents.rotate(session, "zoe")
            assert agents.authenticate(session, fresh).name == "zoe"
    with pytest.raises(Unauthenticated), transactions.begin("service:door") as session:
        agents.authenticate(session, "fed_wrong" if spoil == "unknown" else token)


@pytest.mark.parametrize(
    ("name", "role", "error", "says"),
    [
        ("ada", "lead", Conflict, "agent 'ada' exists already"),
        ("zoe", "developr", NotFound, "no role 'developr'; nearest: developer"),
        ("events", "lead", InvalidInput, "name: got 'events'"),
        ("a b", "lead", InvalidInput, "name: got 'a b'"),
        ("direct:x", "lead", InvalidInput, "without ':'"),
        # Whoever acts so is a part of the program, which the charter does not bind; no token opens that.
        ("node:taichi", "service", InvalidInput, "without ':'"),
        ("service:relay", "service", InvalidInput, "without ':'"),
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
    with transactions.begin("test:hand") as session:
        valid = select(func.count()).where(AgentToken.agent == "bob", AgentToken.revoked_at.is_(None))
        assert session.scalar(valid) == 1


def test_each_of_several_tokens_ends_alone(transactions) -> None:
    with transactions.begin("cli:root") as session:
        secrets = {label: agents.issue_token(session, "bob", label=label, lasting=timedelta(days=1)) for label in ("laptop", "desk", "desk 2")}
        known = {one.label: one for one in agents.tokens(session, "bob") if one.label}
        assert {label: one.state for label, one in known.items()} == dict.fromkeys(secrets, "valid")
        assert agents.revoke(session, "bob", token=str(known["desk 2"].id)[:18].upper()) == 1
        secrets["laptop, new"] = agents.rotate(session, "bob", label="laptop")
        issued = [one for one in agents.tokens(session, "bob") if one.label == "laptop"]
        assert sorted((one.state, one.expires_at is None) for one in issued) == [("revoked", False), ("valid", True)]

    def opens(secret: str) -> bool:
        try:
            with transactions.begin("service:door") as session:
                return agents.authenticate(session, secret).name == "bob"
        except Unauthenticated:
            return False

    assert {label: opens(secret) for label, secret in secrets.items()} == {"laptop": False, "desk": True, "desk 2": False, "laptop, new": True}


def test_what_names_no_one_token_ends_none(transactions) -> None:
    with transactions.begin("cli:root") as session:
        # More than hexadecimal digits, so that two ids begin with the same one.
        for _ in range(17):
            agents.issue_token(session, "bob")
        shared = Counter(str(one.id)[0] for one in agents.tokens(session, "bob")).most_common(1)[0][0]
    for token, error, says in (("", NotFound, "token"), ("zzz", NotFound, "no token 'zzz'"), (shared, Conflict, "give more of the id")):
        with pytest.raises(error, match=says), transactions.begin("cli:root") as session:
            agents.revoke(session, "bob", token=token)
    with pytest.raises(InvalidInput, match="label"), transactions.begin("cli:root") as session:
        agents.issue_token(session, "bob", label="x" * 61)
    with transactions.begin("cli:root") as session:
        assert agents.revoke(session, "bob") >= 17


def test_doctor_warns_of_an_agents_last_token_when_it_is_about_to_end(transactions, postgres, database: str) -> None:
    config = Settings(database_service_url=SecretStr(postgres.as_role("federation_service", database)))
    with transactions.begin("cli:root") as session:
        agents.add(session, "zoe", "observer", lasting=timedelta(days=1))
    assert [told.verdict for told in checks.tokens(config)] == [checks.Verdict.OK]
    with psycopg.connect(database) as connection:
        # The clock is turned by who may: no role of the program says that a token was made at another time.
        connection.execute("SELECT set_config('federation.actor', 'test:hand', true)")
        connection.execute(
            "UPDATE agent_tokens SET created_at = clock_timestamp() - interval '1 day', expires_at = clock_timestamp() + interval '1 hour' "
            "WHERE agent = 'zoe'"
        )
    [told] = checks.tokens(config)
    assert (told.verdict, told.remedy) == (checks.Verdict.WARN, "give it another one: federation agent token zoe")
    with transactions.begin("cli:root") as session:
        agents.issue_token(session, "zoe")
    assert [told.verdict for told in checks.tokens(config)] == [checks.Verdict.OK]
