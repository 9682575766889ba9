"""Agents with tokens of their own talk and see each other through the front door, in both eras of the protocol."""

import asyncio
import re
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from fastmcp.exceptions import ToolError

from federation.errors import Unauthenticated
from federation.mcp import door
from federation.services import agents, limits, messages, nodes
from federation.settings import Settings
from federation.store.context import context

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_agents_message_each_other(house: Any, mode: str) -> None:
    async with house.client("ada", mode=mode) as ada, house.client("bob", mode=mode) as bob:
        sent = (await ada.call_tool("federation_send", {"content": "Please review auth-module.py", "to": "bob", "message_type": "task"})).data
        inbox = (await bob.call_tool("federation_inbox")).structured_content
        (message,) = inbox["messages"]
        assert (message["sender"], message["content"], message["message_type"]) == ("ada", "Please review auth-module.py", "task")
        answer = await bob.call_tool("federation_send", {"content": "Done", "reply_to": message["message_id"]})
        assert answer.data.conversation_id == sent.conversation_id
        assert answer.data.correlation_id == sent.correlation_id
        assert [one["content"] for one in (await ada.call_tool("federation_inbox")).structured_content["messages"]] == ["Done"]


async def test_cursor_marks_what_lies_before_it_as_read(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        for word in ("one", "two"):
            await ada.call_tool("federation_send", {"content": word, "to": "bob"})
        first = (await bob.call_tool("federation_inbox", {"limit": 1})).data
        assert (first.cursor, first.more) == (1, True)
        again = (await bob.call_tool("federation_inbox")).structured_content
        assert [one["content"] for one in again["messages"]] == ["one", "two"]
        assert not (await bob.call_tool("federation_inbox", {"after": again["cursor"]})).data.messages
        assert not (await bob.call_tool("federation_inbox")).data.messages


async def test_inbox_that_waits_is_woken_by_the_message(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        waiting = asyncio.create_task(bob.call_tool("federation_inbox", {"wait_s": 120}))
        await house.heard("inbox:bob")
        sent_at = time.monotonic()
        await ada.call_tool("federation_send", {"content": "wake up", "to": "bob"})
        inbox = (await waiting).structured_content
        assert [one["content"] for one in inbox["messages"]] == ["wake up"]
        # Nobody looks again by itself before 120 s are over: what woke it was the notice.
        assert time.monotonic() - sent_at < 100


async def test_who_waits_at_the_door_gets_also_what_no_notice_told_of(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PROGRESS_S", 0.05)
    monkeypatch.setattr(door, "LOOK_AGAIN_S", 0.2)
    looked = asyncio.Event()

    async def listen(*_: Any) -> None:
        looked.set()

    async with house.client("bob") as bob:
        waiting = asyncio.create_task(bob.call_tool("federation_inbox", {"wait_s": 120}, progress_handler=listen))
        # Its first look has found nothing.
        await asyncio.wait_for(looked.wait(), 60)
        with house.transactions.begin("ada") as session:
            messages.send(session, "unheard", to="bob")
            # As if the connection that listens had been lost at that moment.
            context(session).notices.clear()
        assert [one["content"] for one in (await waiting).structured_content["messages"]] == ["unheard"]


async def test_many_wait_without_holding_a_thread(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        waiting = [asyncio.create_task(bob.call_tool("federation_inbox", {"wait_s": 120})) for _ in range(20)]
        await house.heard("inbox:bob")
        # Each of them looks once, in a thread, and then waits in none.
        while house.door.limiter.borrowed_tokens:
            await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        await ada.call_tool("federation_send", {"content": "all of you", "to": "bob"})
        assert all([(await one).data.messages for one in waiting])


async def test_wait_tells_its_progress_to_a_client_that_asks(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.mcp.door.PROGRESS_S", 0.1)
    told: list[Any] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        told.append((total, message))

    async with house.client("bob") as bob:
        inbox = await bob.call_tool("federation_inbox", {"wait_s": 3}, progress_handler=listen)
    assert not inbox.data.messages
    assert (3, "waiting for a message") in told


async def test_state_is_seen_in_the_pulse(house: Any) -> None:
    async with house.client("ada") as ada, house.client("eve") as eve:
        await ada.call_tool(
            "federation_update_state",
            {"summary": "Refactoring auth", "thinking": "OAuth2 or JWT", "wondering": "refresh tokens?", "offering": "crypto review"},
        )
        rows = {row["name"]: row for row in (await eve.call_tool("federation_pulse")).structured_content["rows"]}
    assert (rows["ada"]["status"], rows["ada"]["thinking"], rows["ada"]["offering"]) == ("EXECUTING", "OAuth2 or JWT", "crypto review")
    assert (rows["bob"]["status"], rows["bob"]["stale"]) == ("IDLE", False)


MISTAKES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("federation_send", {"content": "x", "to": "bobb"}, "no agent 'bobb'; nearest: bob"),
    ("federation_send", {"content": "x", "conversation_id": "a b"}, "conversation_id: got 'a b', wants"),
    ("federation_send", {"content": "x", "message_type": "shout"}, "message_type: got 'shout', wants one of chat, task, result, status"),
    ("federation_send", {}, "content: got nothing, wants a text that is not empty, at most 100000 characters"),
    ("federation_send", {"content": "x", "recipient": "bob", "conversationid": "c"}, "no argument 'conversationid'; nearest: conversation_id"),
    ("federation_delegate", {"description": "d", "agent": "evee"}, "no agent 'evee'; nearest: eve"),
    ("federation_delegate", {"description": "d", "role": "leed"}, "no role 'leed'; nearest: lead"),
    ("federation_delegate", {"description": "d", "node": "taichy"}, "no node 'taichy'; nearest: taichi"),
    (
        "federation_delegate",
        {"description": "d", "agent": "eve", "executor": "node"},
        "agent: got 'eve', wants no agent where executor is 'node'",
    ),
    ("federation_delegate", {"description": "d", "gpus": 1, "executor": "agent"}, "gpus: got 1, wants a task of executor 'node'"),
    ("federation_summarize", {"conversation_id": "comons"}, "no conversation 'comons'; nearest: commons"),
    ("federation_index", {"path": "src"}, "path: got 'src', wants an absolute path"),
    ("federation_task_status", {"task_id": "7f0d3f0e-7c0c-5a55-9a53-0f4d2f1c8b11"}, "no task '7f0d3f0e"),
)


async def test_error_names_what_is_wrong_and_the_nearest_that_exist(house: Any) -> None:
    async with house.client("ada") as ada:
        for tool, arguments, says in MISTAKES:
            told = await ada.call_tool(tool, arguments, raise_on_error=False)
            assert told.is_error, (tool, arguments)
            assert says in told.content[0].text


@pytest.mark.parametrize(
    ("tool", "arguments", "named"),
    [
        ("federation_send", {"content": "a\0b"}, "content: got"),
        ("federation_delegate", {"description": "d", "parameters": {"deep": ["\0"]}}, "parameters.deep.0: got"),
        ("federation_delegate", {"description": "d", "min_vram_gib": "inf"}, "min_vram_gib"),
        ("federation_send", {"content": "x" * 100_001}, "at most 100000 characters"),
        ("federation_inbox", {"after": 2**63}, "after: got"),
    ],
)
async def test_what_the_database_cannot_keep_is_refused_by_name(house: Any, tool: str, arguments: dict[str, Any], named: str) -> None:
    async with house.client("ada") as ada:
        with pytest.raises(ToolError, match=named):
            await ada.call_tool(tool, arguments)


async def test_who_is_too_fast_hears_when_to_call_again_and_who_has_too_much_what_to_do(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "settings", lambda: Settings(messages_per_minute=2, open_tasks_per_agent=1))
    async with house.client("ada") as ada, house.client("bob") as bob:
        await ada.call_tool("federation_delegate", {"description": "Look"})
        refused = await ada.call_tool("federation_delegate", {"description": "Look", "agent": "ada"}, raise_on_error=False)
        assert refused.content[0].text.startswith("ada may have 1 tasks delegated and not ended, and has. Wait until some have ended")
        await ada.call_tool("federation_send", {"content": "one"})
        refused = await ada.call_tool("federation_send", {"content": "two"}, raise_on_error=False)
        assert re.fullmatch(
            r"ada may send 2 messages a minute, and has; call again in \d+ s \(the limit is the operator's: FEDERATION_MESSAGES_PER_MINUTE\)",
            refused.content[0].text,
        )
        await bob.call_tool("federation_send", {"content": "I may"})


async def test_a_node_that_is_to_call_is_an_agent_too_with_the_tokens_of_one_and_the_rights_of_its_role(house: Any) -> None:
    with house.transactions.begin("node:taichi") as session:
        machine = nodes.Announcement("taichi", "lead", (), (), (), (), (), 2, "host", 1, uuid.uuid4(), simulated=False)
        nodes.announce(session, machine)
    with house.transactions.begin("cli:root") as session:
        house.tokens["taichi"] = agents.add(session, "taichi", "service", label="its health check", lasting=timedelta(days=30))
    async with house.client("taichi") as taichi, house.client("ada") as ada:
        await taichi.call_tool("federation_update_state", {"summary": "The disk is nearly full."})
        pulse = (await ada.call_tool("federation_pulse")).structured_content
        assert sorted((row["kind"], row["summary"]) for row in pulse["rows"] if row["name"] == "taichi")[0] == ("agent", "The disk is nearly full.")
        assert sorted(row["kind"] for row in pulse["rows"] if row["name"] == "taichi") == ["agent", "node"]
        # The node's own role is lead; its token gives what `service` may.
        with pytest.raises(ToolError, match="taichi, of the role service, may not hand a task to another"):
            await taichi.call_tool("federation_delegate", {"description": "Prune the log", "agent": "bob"})
    with house.transactions.begin("cli:root") as session:
        assert agents.revoke(session, "taichi") == 1
    with pytest.raises(Unauthenticated), house.transactions.begin("service:door") as session:
        agents.authenticate(session, house.tokens["taichi"])
