"""Each tool refuses what it cannot take by name, and records nothing of it: taken from the tools' own schemas, so that a new tool is tried too."""

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Any

import httpx2
import psycopg
import pytest

from federation.mcp.catalogue import TOOLS
from federation.services import consensus, messages, session_actions, sessions, tasks
from federation.services.electorates import Asked
from federation.services.session_actions import Proposed
from federation.services.sessions import Start

pytestmark = pytest.mark.anyio

EVERY = 4
NAMES = [tool.__name__ for tool, _, _ in TOOLS]
UNKNOWN = str(uuid.uuid4())
SWARM = [name for name in NAMES if name.startswith("swarm_")]
# What names something that must exist: what to say of one that does not, and what stands for it in a conversation of others.
REFERENCES = {
    ("federation_send", "to"): "agent",
    ("federation_send", "reply_to"): "message",
    ("federation_history", "conversation_id"): "conversation",
    ("federation_ask", "to"): "agent",
    ("federation_ask_result", "request_id"): "request",
    ("federation_delegate", "agent"): "agent",
    ("federation_delegate", "role"): "role",
    ("federation_delegate", "node"): "node",
    ("federation_delegate", "engine"): "engine",
    ("federation_delegate", "model"): "model",
    ("federation_delegate", "tags"): "tag",
    ("federation_delegate", "parent"): "task",
    ("federation_assign_role", "agent"): "agent",
    ("federation_assign_role", "role"): "role",
    ("federation_assign_role", "parent"): "task",
    ("federation_phase", "conversation_id"): "conversation",
    ("federation_claim_task", "task_id"): "task",
    ("federation_claim_task", "conversation_id"): "conversation",
    ("federation_release_task", "task_id"): "task",
    ("federation_release_task", "conversation_id"): "conversation",
    ("federation_complete_task", "task_id"): "task",
    ("federation_complete_task", "conversation_id"): "conversation",
    ("federation_task_status", "task_id"): "task",
    ("federation_task_status", "conversation_id"): "conversation",
    ("federation_task_result", "task_id"): "task",
    ("federation_task_result", "conversation_id"): "conversation",
    ("federation_cancel_task", "task_id"): "task",
    ("federation_cancel_task", "conversation_id"): "conversation",
    ("federation_approve", "task_id"): "task",
    ("federation_approve", "conversation_id"): "conversation",
    ("federation_consensus_request", "voters"): "agent",
    ("federation_consensus_request", "task_id"): "task",
    **{(f"federation_consensus_{verb}", "consensus_id"): "vote" for verb in ("acknowledge", "respond", "results")},
    **{(f"federation_consensus_{verb}", "conversation_id"): "conversation" for verb in ("acknowledge", "respond", "results")},
    ("federation_index", "run_id"): "execution",
    ("federation_index", "conversation_id"): "conversation",
    ("federation_search", "root"): "indexed folder",
    ("federation_search", "conversation_id"): "conversation",
    ("federation_remember", "conversation_id"): "conversation",
    ("federation_remember", "message_id"): "message",
    ("federation_remember", "answer"): "answer",
    ("federation_forget", "memory_id"): "memory",
    ("federation_infer", "role"): "role",
    ("federation_infer", "node"): "node",
    ("federation_infer", "model"): "model",
    ("federation_infer", "conversation_id"): "conversation",
    ("federation_summarize", "conversation_id"): "conversation",
    ("federation_summarize", "part_of"): "summary",
    ("federation_artifact_put", "conversation_id"): "conversation",
    ("federation_artifact_put", "task_id"): "task",
    ("federation_artifact_get", "conversation_id"): "conversation",
    ("federation_artifact_get", "name"): "artifact",
    **{(tool, "session_id"): "session" for tool in SWARM},
    **{(tool, "conversation_id"): "conversation" for tool in SWARM},
    **{(f"swarm_{verb}", "action_id"): "action" for verb in ("vote", "claim_task", "complete_task")},
    **{(f"swarm_{verb}", "hypothesis_id"): "hypothesis" for verb in ("post_finding", "get_findings")},
    ("swarm_join_session", "voters"): "agent",
    ("swarm_propose_action", "agent"): "agent",
}
SIGNED = ["send", "ask", "delegate", "assign_role", "claim_task", "release_task", "complete_task", "cancel_task", "claim", "release", "approve"]
SIGNED += ["consensus_respond"]
# What an argument is of no use without.
BESIDE = {
    ("federation_summarize", "part_of"): {"conversation_id": "commons"},
    ("federation_index", "conversation_id"): {"path": "/srv/code"},
    ("federation_infer", "conversation_id"): {"cache": True},
    ("federation_artifact_put", "task_id"): {"conversation_id": "commons"},
    ("federation_artifact_get", "name"): {"conversation_id": "commons"},
}
# What its caller chooses or says.
FREE = {
    ("federation_claim", "resource"),
    ("federation_claim", "description"),
    ("federation_release", "resource"),
    ("federation_claims", "resource"),
    ("federation_claims", "after"),
    ("federation_send", "content"),
    ("federation_send", "conversation_id"),
    ("federation_send", "message_id"),
    ("federation_ask", "content"),
    ("federation_ask", "conversation_id"),
    ("federation_ask", "message_id"),
    ("federation_history", "thread"),
    ("federation_pulse", "at"),
    ("federation_pulse", "after"),
    ("federation_update_state", "capabilities"),
    ("federation_update_state", "summary"),
    ("federation_update_state", "thinking"),
    ("federation_update_state", "wondering"),
    ("federation_update_state", "offering"),
    ("federation_delegate", "description"),
    ("federation_delegate", "conversation_id"),
    ("federation_delegate", "task_id"),
    ("federation_delegate", "start_at"),
    ("federation_delegate", "capability"),
    *(("federation_assign_role", word) for word in ("conversation_id", "subtask", "task_id")),
    ("federation_phase", "reason"),
    ("federation_approve", "reason"),
    *((f"federation_{name}", word) for name in SIGNED for word in ("statement", "signature")),
    *(("federation_consensus_request", word) for word in ("question", "options", "conversation_id", "consensus_id")),
    ("federation_consensus_acknowledge", "options_hash"),
    *(("federation_consensus_respond", word) for word in ("response", "choices", "reason")),
    ("federation_claim_task", "description"),
    ("federation_cancel_task", "reason"),
    ("federation_index", "path"),
    ("federation_search", "query"),
    ("federation_search", "path"),
    *(("federation_remember", word) for word in ("content", "about")),
    *(("federation_recall", word) for word in ("query", "about", "before", "since")),
    ("federation_infer", "prompt"),
    ("federation_infer", "stop"),
    ("federation_infer", "system"),
    *(("federation_artifact_put", word) for word in ("name", "content", "media_type")),
    ("federation_artifact_get", "after"),
    ("swarm_join_session", "focus"),
    ("swarm_post_finding", "content"),
    ("swarm_post_finding", "finding_id"),
    ("swarm_get_findings", "source"),
    ("swarm_get_findings", "query"),
    *(("swarm_propose_action", word) for word in ("content", "target", "action_id")),
    *(("swarm_vote", word) for word in ("options_hash", "reason")),
    ("swarm_claim_task", "description"),
}


def recorded(house: Any, postgres: Any) -> dict[str, Any]:
    """Return of each table how many rows it has, and the last transaction that wrote one."""
    with psycopg.connect(postgres.as_role("federation_owner", house.database_url)) as connection:
        tables = [row[0] for row in connection.execute("select tablename from pg_tables where schemaname = 'public'")]
        query = "select count(*), coalesce(max(xmin::text::bigint), 0) from {}"
        return {table: connection.execute(query.format(table)).fetchone() for table in tables}


@pytest.fixture(scope="module")
def schemas(lasting_house: Any) -> dict[str, Any]:
    """What the tools say that they take."""

    async def ask() -> dict[str, Any]:
        async with lasting_house.client("ada") as ada:
            return {tool.name: tool.input_schema for tool in await ada.list_tools()}

    return asyncio.run(ask())


def good(schema: dict[str, Any]) -> dict[str, Any]:
    """Return arguments that a tool would take, from the examples that it gives."""
    return {name: schema["properties"][name]["examples"][0] for name in schema.get("required", ())}


def kinds(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return schema.get("anyOf", [schema])


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"down": value}
    return value


def bad(schema: dict[str, Any]) -> Iterator[Any]:
    """Yield values of each kind that an argument of this schema must not have."""
    types = {kind["type"] for kind in kinds(schema)}
    if "null" not in types:
        yield None
    for kind in kinds(schema):
        match kind["type"]:
            case "string":
                yield from (5, True, ["x"], {"a": 1}, "x" * max(1_000_001, kind.get("maxLength", 0) + 1))
                yield from ("a\0b",) if not kind.get("format") else ()
                yield from ("nonsense", "") if "enum" in kind else ()
                yield from ("not-a-uuid", "") if kind.get("format") == "uuid" else ()
                yield from ("", " \n") if "pattern" in kind else ()
                yield from ("a b", "é", "-x", "x" * 101, "a\n") if kind.get("pattern", "").startswith("^[A-Z") else ()
                yield from ("relative/path", "../up") if kind.get("pattern") == "^/" else ()
            case "integer" | "number":
                yield from ("three", "", True, [], {}, "nan", "inf", "-inf", -1, 10**300, 2**63, -(2**63))
                yield from (1.5, "1.5") if kind["type"] == "integer" else ()
                yield from (kind["minimum"] - 1,) if "minimum" in kind else ()
                yield from (kind["maximum"] + 1,) if "maximum" in kind else ()
            case "boolean":
                yield from ("maybe", 2, [], {})
            case "array":
                yield from ("text", 5, {"a": 1}, [5], [None], [""], ["a\0b"], ["x"] * 1000)
            case "object":
                yield from ("text", 5, [1], {"a\0b": 1}, {"a": ["\0"]}, {"a": 2**63}, {"a": "x" * 100_001}, deep(100))


# In the short run each argument gets some of the values: of one kind of argument there are many, which together get all.
@pytest.mark.parametrize("every", [EVERY, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", NAMES)
async def test_what_a_tool_cannot_take_is_refused_by_name_and_leaves_no_trace(
    lasting_house: Any, postgres: Any, schemas: dict[str, Any], name: str, every: int
) -> None:
    schema = schemas[name]
    before = recorded(lasting_house, postgres)
    tried = 0
    async with lasting_house.client("ada") as ada:
        for place, (argument, about) in enumerate(schema["properties"].items(), start=NAMES.index(name)):
            for value in islice(bad(about), place % every, None, every):
                told = await ada.call_tool(name, {**good(schema), argument: value}, raise_on_error=False)
                says = told.content[0].text
                assert told.is_error, (argument, value)
                assert re.match(rf"{argument}(\.\S*)?: got .+, wants .+", says, re.S), (argument, str(value)[:100], says)
                assert len(says) < 500
                tried += 1
        missing = await ada.call_tool(name, {**good(schema), "no_such_argument": 1}, raise_on_error=False)
        assert missing.is_error
        assert missing.content[0].text.startswith("no argument 'no_such_argument'")
        for required in schema.get("required", ()):
            told = await ada.call_tool(name, {key: value for key, value in good(schema).items() if key != required}, raise_on_error=False)
            assert told.content[0].text.startswith(f"{required}: got nothing, wants ")
    assert tried >= 4 * len(schema["properties"]) // every
    assert recorded(lasting_house, postgres) == before


def test_each_argument_that_is_a_text_is_known_to_be_free_or_to_name_something(schemas: dict[str, Any]) -> None:
    texts = set()
    for name, schema in schemas.items():
        for argument, about in schema["properties"].items():
            plain = [kind for kind in kinds(about) if "enum" not in kind]
            if any("string" in {kind["type"], kind.get("items", {}).get("type")} for kind in plain):
                texts.add((name, argument))
    assert texts == REFERENCES.keys() | FREE


@pytest.mark.parametrize(("name", "argument"), REFERENCES)
async def test_what_does_not_exist_is_named_and_leaves_no_trace(
    lasting_house: Any, postgres: Any, schemas: dict[str, Any], name: str, argument: str
) -> None:
    with lasting_house.transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="memory-profile")
        sessions.join(session, "INC-1234", Start(context={}))
    schema = schemas[name]
    kind = REFERENCES[name, argument]
    value = "/nowhere" if kind == "indexed folder" else UNKNOWN
    given = good(schema) | BESIDE.get((name, argument), {}) | {argument: [value] if kind == "tag" or argument == "voters" else value}
    before = recorded(lasting_house, postgres)
    async with lasting_house.client("ada") as ada:
        told = await ada.call_tool(name, given, raise_on_error=False)
    assert told.is_error
    assert told.content[0].text.startswith(f"no {kind} '{value}'"), told.content[0].text
    assert recorded(lasting_house, postgres) == before


@pytest.fixture(scope="module")
def hidden(lasting_house: Any) -> dict[str, list[Any]]:
    """What dan, who has a session of his own, does not see: names and ids of each kind of thing in a conversation of others."""
    with lasting_house.transactions.begin("ada") as session:
        said = messages.send(session, "the password is swordfish", conversation_id="hidden-talk", to="bob")
        tasks.delegate(session, "swordfish", conversation_id="hidden-talk", slug="hidden-task")
        task = tasks.delegate(session, "swordfish", conversation_id="hidden-talk", executor="node")
        vote = consensus.request(session, Asked(question="swordfish?", conversation_id="hidden-talk"), slug="hidden-vote")
        begun = sessions.join(session, "INC-666", Start(context={"task": "swordfish"}), conversation_id="hidden-talk")
        action = session_actions.propose(
            session, "INC-666", Proposed(content="swordfish", type="query", requires_approval=False), slug="hidden-action"
        )
    with lasting_house.transactions.begin("dan") as session:
        sessions.join(session, "own", Start(context={}))

    async def ask() -> tuple[Any, Any]:
        async with lasting_house.client("ada") as ada:
            run = (await ada.call_tool("federation_index", {"path": "/srv/swordfish"})).data.run_id
            return run, (await ada.call_tool("federation_infer", {"prompt": "swordfish", "wait_s": 0})).data.execution_id

    run, asked = asyncio.run(ask())
    return {
        "message": [said.message_id],
        "task": ["hidden-task", task.id, asked, run],
        "vote": ["hidden-vote", vote.id],
        "conversation": ["hidden-talk"],
        "execution": [run, asked],
        "session": ["INC-666", begun.id],
        "action": ["hidden-action", action.id],
    }


@pytest.mark.parametrize(
    ("name", "argument"),
    [key for key, kind in REFERENCES.items() if kind in {"message", "task", "vote", "conversation", "execution", "session", "action"}],
)
async def test_what_is_of_another_conversation_is_refused_and_tells_nothing(
    lasting_house: Any, postgres: Any, schemas: dict[str, Any], hidden: dict[str, list[Any]], name: str, argument: str
) -> None:
    kind = REFERENCES[name, argument]
    usual = good(schemas[name]) | BESIDE.get((name, argument), {}) | ({"session_id": "own"} if kind == "action" else {})
    before = recorded(lasting_house, postgres)
    async with lasting_house.client("dan") as dan:
        for value in hidden[kind]:
            told = await dan.call_tool(name, usual | {argument: str(value)}, raise_on_error=False)
            assert told.is_error
            assert re.match(rf"no \w+ '{value}'|Need to know:|Explicit assignment", told.content[0].text), told.content[0].text
            assert "swordfish" not in told.content[0].text
    assert recorded(lasting_house, postgres) == before


@pytest.mark.parametrize("era", ["2025-06-18", "2026-07-28"])
@pytest.mark.parametrize(
    "arguments",
    [
        b'{"content": NaN}',
        b'{"content": 1e999}',
        b'{"content": "\\ud800"}',
        b'{"content": "a\\u0000b"}',
        b'{"content": "\xff"}',
        b'{"content": ' + b"9" * 6000 + b"}",
        b'{"content": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"content": "once", "content": 5}',
        b'{"content": ',
        b"[]",
        b'"content"',
        b"null",
    ],
)
async def test_no_bytes_are_answered_with_a_fault_of_ours(lasting_house: Any, postgres: Any, era: str, arguments: bytes) -> None:
    meta = {f"io.modelcontextprotocol/{key}": value for key, value in {"protocolVersion": era, "clientCapabilities": {}}.items()}
    params = b'"name": "federation_send", "arguments": ' + arguments + b', "_meta": ' + json.dumps(meta).encode()
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "Authorization": f"Bearer {lasting_house.tokens['ada']}",
        "mcp-protocol-version": era,
        "mcp-method": "tools/call",
        "mcp-name": "federation_send",
    }
    before = recorded(lasting_house, postgres)
    async with httpx2.AsyncClient(headers=headers) as http:
        told = await http.post(
            f"{lasting_house.url}/mcp", content=b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {' + params + b"}}"
        )
    assert told.status_code in {200, 400}
    assert '"isError":true' in told.text or '"error":' in told.text
    assert "Traceback" not in told.text
    assert "Error calling tool" not in told.text
    assert recorded(lasting_house, postgres) == before
