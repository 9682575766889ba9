"""Whatever is called, the front door goes on, tells nothing of its inside, and writes no half of anything; `make fuzz` calls ten thousand times."""

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema
import psycopg
import pytest
from hypothesis import HealthCheck, Phase
from pydantic import SecretStr

from federation.delivery.app import make
from federation.delivery.publisher import CeleryPublisher
from federation.delivery.voices import PartVoice
from federation.mcp.door import Door
from federation.services import agents, consensus, findings, limits, memories, messages, session_actions, sessions, statements, task_claims, tasks
from federation.services.electorates import Asked
from federation.services.findings import Said
from federation.services.replay import replay
from federation.services.session_actions import Proposed
from federation.services.sessions import Start
from federation.settings import Settings
from federation.transaction import Transactions, connect, reading
from tests.integration.mcp.fuzzing import Fuzzer, calls

CAST = {"ada": "lead", "bob": "developer", "dan": "developer", "eve": "analyst"}
SOME, MANY = 150, int(os.environ.get("FUZZ_CALLS", "10000"))
# After so many calls there is something new: of what there was, little is left that anything can be done with.
LIFE = 400
KNOWN = frozenset(
    {
        *("task_id", "parent", "conversation_id", "to", "agent", "role", "reply_to", "after", "run_id", "fencing_token"),
        *("consensus_id", "options_hash", "response", "session_id", "action_id", "hypothesis_id", "request_id", "name", "memory_id"),
    }
)
RATES = ("messages_per_minute", "states_per_minute", "searches_per_minute", "indexings_per_hour", "memories_per_minute")
UNLIMITED = (*RATES, "open_tasks_per_agent", "memories_per_agent", "inference_tokens_per_day", "artifact_bytes_per_day")
# Nobody listens there: what runs on nodes is recorded, and answered with what it waits for.
NOWHERE = "activemq://nobody:swordfish@127.0.0.1:9/"


@pytest.fixture
def fuzzed(
    postgres: Any, database: str, serve: Callable[..., AbstractContextManager[Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Any, Fuzzer, dict[str, Any]]]:
    """A front door with some life behind it, and what calls it."""
    # Many calls are one agent's here.
    monkeypatch.setattr(limits, "settings", lambda: Settings(**dict.fromkeys(UNLIMITED, 0)))
    url, service_url = (postgres.as_role(role, database) for role in ("federation_app", "federation_service"))
    given = Settings(data_dir=tmp_path, broker_url=SecretStr(NOWHERE), database_service_url=SecretStr(service_url))
    engine, service = connect(url), connect(service_url)
    app = make(lambda: given)
    # As in a running federation it attests what its callers state.
    transactions = Transactions(engine, CeleryPublisher(app, service, stale_s=6), service=service, voice=PartVoice(app))
    with transactions.begin("test:setup") as session:
        tokens = {name: agents.add(session, name, role) for name, role in CAST.items()}
    pool = _life(transactions, 0)
    with serve(transactions, url, tokens) as house:
        schemas, outputs = _schemas(house.door)
        passwords = (*postgres.role_passwords.values(), "swordfish", *tokens.values())
        patient = frozenset(name for name, schema in schemas.items() if schema["properties"].get("wait_s", {}).get("default"))
        yield house, Fuzzer(house.url, tokens, passwords, outputs, pool, patient), schemas
    engine.dispose()
    service.dispose()


def _life(transactions: Transactions, number: int) -> dict[str, list[Any]]:
    """Let the agents begin something, the number-th of its kind, and return what there is."""
    project, incident, claimed = f"project-{123 + number}", f"INC-{1234 + number}", []
    pieces, looks, repairs = ([f"{kind}-{number}-{one}" for one in range(6)] for kind in ("piece", "look", "repair"))
    with transactions.begin("ada") as session:
        said = messages.send(session, "Welcome", conversation_id=project, to="bob")
        for name in pieces:
            tasks.delegate(session, name, conversation_id=project, slug=name)
    with transactions.begin("bob") as session:
        proposed = [tasks.delegate(session, "Repair it", conversation_id=project, requires_approval=True).id for _ in range(3)]
    for name in pieces[:4]:
        with transactions.begin("bob") as session:
            claimed.append((name, task_claims.claim(session, name, description="", ttl_s=3600).fencing_token))
    with transactions.begin("ada") as session:
        open_ = Asked(question="Deploy?", timeout_s=86_400, early=False, quorum="unanimous")
        asked = [consensus.request(session, open_) for _ in range(3)]
    remembered = []
    for name in CAST:
        with transactions.begin(name) as session:
            remembered += [str(memories.remember(session, f"{name} {number} {one}").memory_id) for one in range(3)]
            for vote in asked:
                consensus.acknowledge(session, str(vote.id), vote.options_hash)
            sessions.join(session, incident, Start(context={"task": "look"}, voters=list(CAST)) if name == "ada" else Start())
    with transactions.begin("bob") as session:
        guess = findings.post(session, incident, Said(content="The cache", category="hypothesis", confidence=0.5)).finding.id
        for name in looks[:4]:
            session_actions.propose(session, incident, Proposed(content="Look", type="query", requires_approval=False), slug=name)
        voted_on = []
        for name in repairs[:3]:
            repair = Proposed(content="Repair", type="modify", timeout_s=86_400)
            vote = session_actions.vote_on(session, session_actions.propose(session, incident, repair, slug=name))
            voted_on.append((name, vote.options_hash if vote else ""))
        taken = [(name, task_claims.claim(session, name, description="", ttl_s=3600).fencing_token) for name in looks[:3]]
    return {
        "action_claim": taken,
        "action_hash": voted_on,
        "session_id": [incident],
        "action_id": [*looks[:4], *repairs[:3]],
        "hypothesis_id": [str(guess)],
        "task_id": [*pieces, *map(str, proposed)],
        "federation_approve task_id": list(map(str, proposed)),
        "conversation_id": [project, "commons", "direct:ada:bob"],
        "to": list(CAST),
        "agent": list(CAST),
        "role": ["lead", "developer", "analyst"],
        "reply_to": [str(said.message_id)],
        "after": [0, 1],
        "run_id": [],
        "fencing_token": [1],
        "memory_id": remembered,
        "parent": pieces,
        "claim": claimed,
        "consensus_id": [str(vote.id) for vote in asked],
        "options_hash": [vote.options_hash for vote in asked],
        "response": ["yes", "no", "abstain"],
        "name": ["plan.md", "src/auth.py"],
    }


def _schemas(door: Door) -> tuple[dict[str, Any], dict[str, jsonschema.Draft202012Validator]]:
    from federation.mcp.catalogue import offer

    tools = offer()
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    outputs = {tool.name: jsonschema.Draft202012Validator(tool.output_schema or {}, format_checker=checker) for tool in tools}
    return {tool.name: tool.parameters for tool in tools}, outputs


def _fuzz(fuzzed: tuple[Any, Fuzzer, dict[str, Any]], count: int) -> None:
    house, fuzzer, schemas = fuzzed
    written = "SELECT coalesce(max(sequence), 0) FROM events"
    with psycopg.connect(house.database_url, autocommit=True) as watching:
        # An answer depends on what was called before, so none is shrunk: the call that went wrong is in the error, as it was sent.
        @hypothesis.settings(max_examples=count, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None, deadline=None)
        @hypothesis.given(calls(schemas, tuple(CAST), KNOWN))
        def one(drawn: Any) -> None:
            made = sum(fuzzer.taken.values()) + sum(fuzzer.refused.values())
            if made and made % LIFE == 0:
                fuzzer.pool |= _life(house.transactions, made // LIFE)
            before = watching.execute(written).fetchone()
            if not fuzzer.call(drawn):
                assert watching.execute(written).fetchone() == before, f"a call that was refused has written something: {drawn}"

        one()
    # It was no fuzzing at the wall: each tool has taken something, and refused something.
    assert sum(fuzzer.taken.values()) > count // 20, (fuzzer.taken, fuzzer.refused)
    assert sum(fuzzer.refused.values()) > count // 10, (fuzzer.taken, fuzzer.refused)
    # The door lives, and what is in the tables is what the events make of it: no half of anything.
    with urllib.request.urlopen(f"{house.url}/health", timeout=30) as answer:
        assert json.loads(answer.read()) == {"status": "ok"}
    with reading(house.transactions.service) as session:
        assert replay(session).differences == []
        assert list(statements.unsound(session)) == []


def test_some_calls_of_all_kinds_leave_the_door_whole(fuzzed: tuple[Any, Fuzzer, dict[str, Any]]) -> None:
    _fuzz(fuzzed, SOME)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_calls_of_all_kinds_leave_the_door_whole(fuzzed: tuple[Any, Fuzzer, dict[str, Any]]) -> None:
    _fuzz(fuzzed, MANY)
    _, fuzzer, schemas = fuzzed
    # Fewer may miss some tool by chance.
    if MANY >= 10_000:
        assert set(fuzzer.taken) | {"federation_search"} >= set(schemas)
        assert set(fuzzer.refused) >= set(schemas)
