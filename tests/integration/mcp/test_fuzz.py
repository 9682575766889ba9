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
from federation.services import agents, consensus, findings, limits, messages, session_actions, sessions, statements, task_claims, tasks
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
KNOWN = frozenset(
    {
        *("task_id", "parent", "conversation_id", "to", "agent", "role", "reply_to", "after", "run_id", "fencing_token"),
        *("consensus_id", "options_hash", "response", "session_id", "action_id", "hypothesis_id"),
    }
)
# Nobody listens there: what runs on nodes is recorded, and answered with what it waits for.
NOWHERE = "activemq://nobody:swordfish@127.0.0.1:9/"


@pytest.fixture
def fuzzed(
    postgres: Any, database: str, serve: Callable[..., AbstractContextManager[Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Any, Fuzzer, dict[str, Any]]]:
    """A front door with some life behind it, and what calls it."""
    # Many calls are one agent's here.
    monkeypatch.setattr(limits, "settings", lambda: Settings(messages_per_minute=0, open_tasks_per_agent=0, inference_tokens_per_day=0))
    url, service_url = (postgres.as_role(role, database) for role in ("federation_app", "federation_service"))
    given = Settings(data_dir=tmp_path, broker_url=SecretStr(NOWHERE), database_service_url=SecretStr(service_url))
    engine, service = connect(url), connect(service_url)
    app = make(lambda: given)
    # As in a running federation it attests what its callers state.
    transactions = Transactions(engine, CeleryPublisher(app, service, stale_s=6), service=service, voice=PartVoice(app))
    with transactions.begin("test:setup") as session:
        tokens = {name: agents.add(session, name, role) for name, role in CAST.items()}
    pool = _life(transactions)
    with serve(transactions, url, tokens) as house:
        schemas, outputs = _schemas(house.door)
        passwords = (*postgres.role_passwords.values(), "swordfish", *tokens.values())
        yield house, Fuzzer(house.url, tokens, passwords, outputs, pool), schemas
    engine.dispose()
    service.dispose()


def _life(transactions: Transactions) -> dict[str, list[Any]]:
    """Let the agents have begun something, and return what there is of each kind."""
    claimed = []
    with transactions.begin("ada") as session:
        said = messages.send(session, "Welcome", conversation_id="project-123", to="bob")
        for number in range(6):
            tasks.delegate(session, f"Piece {number}", conversation_id="project-123", slug=f"piece-{number}")
    for number in range(4):
        with transactions.begin("bob") as session:
            token = task_claims.claim(session, f"piece-{number}", description="", ttl_s=600).fencing_token
        claimed.append((f"piece-{number}", token))
    with transactions.begin("ada") as session:
        open_ = Asked(question="Deploy?", timeout_s=86_400, early=False, quorum="unanimous")
        asked = [consensus.request(session, open_) for _ in range(3)]
    for name in CAST:
        with transactions.begin(name) as session:
            sessions.join(session, "INC-1234", Start(context={"task": "look"}, voters=list(CAST)) if name == "ada" else Start())
    with transactions.begin("bob") as session:
        guess = findings.post(session, "INC-1234", Said(content="The cache", category="hypothesis", confidence=0.5)).finding.id
        for number in range(4):
            session_actions.propose(session, "INC-1234", Proposed(content="Look", type="query", requires_approval=False), slug=f"look-{number}")
        voted_on = []
        for number in range(3):
            repair = Proposed(content="Repair", type="modify", timeout_s=86_400)
            vote = session_actions.vote_on(session, session_actions.propose(session, "INC-1234", repair, slug=f"repair-{number}"))
            voted_on.append((f"repair-{number}", vote.options_hash if vote else ""))
        taken = [(f"look-{number}", task_claims.claim(session, f"look-{number}", description="", ttl_s=3600).fencing_token) for number in range(3)]
    return {
        "action_claim": taken,
        "action_hash": voted_on,
        "session_id": ["INC-1234"],
        "action_id": [*(f"look-{number}" for number in range(4)), *(name for name, _ in voted_on)],
        "hypothesis_id": [str(guess)],
        "task_id": [f"piece-{number}" for number in range(6)],
        "conversation_id": ["project-123", "commons", "direct:ada:bob"],
        "to": list(CAST),
        "agent": list(CAST),
        "role": ["lead", "developer", "analyst"],
        "reply_to": [str(said.message_id)],
        "after": [0, 1],
        "run_id": [],
        "fencing_token": [1],
        "parent": [f"piece-{number}" for number in range(6)],
        "claim": claimed,
        "consensus_id": [str(vote.id) for vote in asked],
        "options_hash": [vote.options_hash for vote in asked],
        "response": ["yes", "no", "abstain"],
    }


def _schemas(door: Door) -> tuple[dict[str, Any], dict[str, jsonschema.Draft202012Validator]]:
    from federation.mcp.catalogue import offer

    tools = offer(door)
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
    assert set(fuzzer.taken) | {"federation_search"} >= set(schemas)
    assert set(fuzzer.refused) >= set(schemas)
