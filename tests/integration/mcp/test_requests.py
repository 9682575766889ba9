"""Asking, answering and looking back through the front door; a late answer has a handle, and who waits is woken and polls nothing."""

import asyncio
import time
from typing import Any

import pytest

pytestmark = pytest.mark.anyio


async def test_who_asks_gets_the_answer_as_soon_as_it_is_there(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        asking = asyncio.create_task(ada.call_tool("federation_ask", {"content": "What is the error rate?", "to": "bob", "wait_s": 120}))
        await house.heard("inbox:ada")
        [request] = (await bob.call_tool("federation_inbox", {"wait_s": 120})).structured_content["messages"]
        assert (request["message_type"], request["content"]) == ("request", "What is the error rate?")
        answered_at = time.monotonic()
        await bob.call_tool("federation_send", {"content": "5 %", "reply_to": request["message_id"]})
        asked = (await asking).structured_content
        assert (asked["state"], asked["answer"]["status"], asked["answer"]["sender"], asked["answer"]["content"]) == (
            "answered",
            "success",
            "bob",
            "5 %",
        )
        # Nobody looks again by itself before 30 s are over: what woke it was the notice.
        assert time.monotonic() - answered_at < 25
        assert not (await ada.call_tool("federation_inbox")).structured_content["messages"], "it was read"


async def test_a_late_answer_has_a_handle(house: Any) -> None:
    async with house.client("ada") as ada:
        asked = (await ada.call_tool("federation_ask", {"content": "Rate?", "to": "bob", "wait_s": 0})).structured_content
    assert (asked["state"], asked["answer"], asked["waiting_for"]) == ("waiting", None, "the answer of bob")
    async with house.client("bob") as bob:
        body = {"status": "failure", "result": {"reason": "no logs"}}
        await bob.call_tool("federation_send", {"content": "I cannot", "message_type": "response", "reply_to": asked["request_id"], "body": body})
    # By another connection, after whatever restart.
    async with house.client("ada") as ada, house.client("bob") as bob:
        handle = {"request_id": asked["request_id"], "wait_s": 0}
        later = (await ada.call_tool("federation_ask_result", handle)).structured_content
        assert (later["state"], later["answer"]["status"], later["answer"]["result"]) == ("answered", "failure", {"reason": "no logs"})
        assert (await bob.call_tool("federation_ask_result", handle, raise_on_error=False)).is_error, "it is ada's"


async def test_what_nobody_can_do_waits_for_who_can(house: Any) -> None:
    ask = {"content": "Which deployment?", "to": "capability:check_deployment", "parameters": {"since": "10:15"}, "wait_s": 0}
    async with house.client("ada") as ada, house.client("eve") as eve:
        asked = (await ada.call_tool("federation_ask", ask)).structured_content
        assert "nobody in commons says that he can check_deployment" in asked["waiting_for"]
        waiting = asyncio.create_task(eve.call_tool("federation_inbox", {"wait_s": 120}))
        await house.heard("inbox:eve")
        await eve.call_tool("federation_update_state", {"summary": "Here", "capabilities": ["check_deployment"]})
        [request] = (await waiting).structured_content["messages"]
        assert (request["to"], request["data"]) == ("capability:check_deployment", {"parameters": {"since": "10:15"}})
        await eve.call_tool("federation_send", {"content": "v1.2.3", "reply_to": request["message_id"]})
        answered = (await ada.call_tool("federation_ask_result", {"request_id": asked["request_id"]})).structured_content
    assert answered["answer"]["content"] == "v1.2.3"


async def test_history_pages_and_says_who_has_read(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("eve") as eve:
        for word in ("one", "two", "three"):
            await ada.call_tool("federation_send", {"content": word, "to": "bob", "conversation_id": "project-123"})
        inbox = (await bob.call_tool("federation_inbox", {"limit": 2})).data
        await bob.call_tool("federation_inbox", {"after": inbox.cursor, "limit": 1})
        page = (await ada.call_tool("federation_history", {"conversation_id": "project-123", "limit": 2})).structured_content
        assert ([message["content"] for message in page["messages"]], page["more"]) == (["two", "three"], True)
        assert [(message["read_by"], message["unread_by"]) for message in page["messages"]] == [(["bob"], 0), ([], 1)]
        back = {"conversation_id": "project-123", "before": page["messages"][0]["position"]}
        assert [message["content"] for message in (await ada.call_tool("federation_history", back)).structured_content["messages"]] == ["one"]
        stranger = await eve.call_tool("federation_history", {"conversation_id": "project-123"}, raise_on_error=False)
        assert stranger.content[0].text == "no conversation 'project-123'; there is commons"


async def test_typed_messages_come_as_they_were_sent_and_junk_is_refused_by_its_field(house: Any) -> None:
    finding = {"category": "hypothesis", "confidence": 0.7, "evidence": [{"source": "prometheus", "query": "rate(errors[5m])", "result": "0.05"}]}
    bodies = {
        "finding": finding,
        "action": {"type": "escalate", "target": "the pool", "parameters": {}, "requires_approval": False},
        "request": {"parameters": {"since": "10:15"}},
    }
    async with house.client("ada") as ada, house.client("bob") as bob:
        for kind, body in bodies.items():
            await ada.call_tool("federation_send", {"content": kind, "to": "bob", "message_type": kind, "body": body})
        got = (await bob.call_tool("federation_inbox")).structured_content["messages"]
        assert {message["message_type"]: message["data"] for message in got} == bodies
        junk = {"content": "x", "message_type": "finding", "body": {**finding, "confidence": 1.1}}
        refused = await ada.call_tool("federation_send", junk, raise_on_error=False)
        assert refused.content[0].text == "body.confidence: got 1.1, wants less than or equal to 1"


@pytest.mark.parametrize("kind", ["query", "modify", "notify", "escalate"])
async def test_each_kind_of_action_comes_as_it_was_sent_and_waits_for_approval_where_it_wants_one(house: Any, kind: str) -> None:
    action = {"type": kind, "target": "deployment/web", "parameters": {"version": "v1.2.3", "deep": [1, {"x": None}]}, "requires_approval": False}
    async with house.client("eve") as eve, house.client("ada") as ada:
        for asks in (False, True):
            body = {**action, "requires_approval": asks}
            sent = {"content": kind, "to": "ada", "message_type": "action", "body": body, "message_id": f"{kind}-{asks}"}
            await eve.call_tool("federation_send", sent)
        got = (await ada.call_tool("federation_inbox")).structured_content["messages"]
        actions = [message["data"] for message in got if message["message_type"] == "action"]
        assert actions[0] == action
        assert {name: actions[1][name] for name in action} == {**action, "requires_approval": True}
        [parked] = (await ada.call_tool("federation_pulse")).structured_content["awaiting_approval"]
        assert (parked["slug"], parked["asked_by"]) == (f"{kind}-True:task", "eve")
        assert (await eve.call_tool("federation_task_status", {"task_id": f"{kind}-True:task"})).structured_content["state"] == "awaiting_approval"


async def test_an_action_that_requires_approval_is_parked_as_a_task(house: Any) -> None:
    action = {"type": "modify", "target": "cache", "requires_approval": True}
    call = {"content": "Restart the cache", "message_type": "action", "body": action, "message_id": "restart"}
    async with house.client("eve") as eve, house.client("ada") as ada:
        sent = [(await eve.call_tool("federation_send", call)).structured_content for _ in range(2)]
        assert sent[0]["waiting_for"] == "the approval of ada"
        assert sent[0]["message_id"] == sent[1]["message_id"]
        [awaiting] = (await ada.call_tool("federation_pulse")).structured_content["awaiting_approval"]
        assert awaiting["terms"]["parameters"] == {"type": "modify", "target": "cache"}
        await ada.call_tool("federation_approve", {"task_id": "restart:task", "decision": "approve", "reason": "fine"})
        status = (await eve.call_tool("federation_task_status", {"task_id": "restart:task"})).structured_content
    assert status["state"] == "pending"


async def test_pulse_waits_for_a_change_and_says_what_was(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        cursor = (await bob.call_tool("federation_pulse")).structured_content["cursor"]
        waiting = asyncio.create_task(bob.call_tool("federation_pulse", {"after": cursor, "wait_s": 120, "form": "table"}))
        await house.heard("pulse")
        said_at = time.monotonic()
        told = await ada.call_tool("federation_update_state", {"summary": "Refactoring auth", "thinking": "OAuth2 or JWT"})
        changed = (await waiting).structured_content
        assert time.monotonic() - said_at < 25, "what woke it was the notice"
        assert "| ada | EXECUTING | Refactoring auth | OAuth2 or JWT |" in changed["table"]
        assert changed["rows"] == []
        await ada.call_tool("federation_update_state", {"summary": "Done", "action": "IDLE"})
        then = (await bob.call_tool("federation_pulse", {"at": told.structured_content["updated_at"]})).structured_content
        assert [(row["summary"], row["status"]) for row in then["rows"] if row["name"] == "ada"] == [("Refactoring auth", "EXECUTING")]
        assert (then["cursor"], then["awaiting_approval"]) == (None, [])


async def test_who_goes_on_from_a_cursor_reads_little(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:

        async def pulse(**more: Any) -> Any:
            return (await bob.call_tool("federation_pulse", more)).structured_content

        told = await ada.call_tool("federation_update_state", {"summary": "Refactoring", "wondering": "Who reviews the crypto?"})
        first = await pulse(limit=3)
        assert ([row["name"] for row in first["rows"]], first["more"]) == (["ada", "bob", "dan"], True)
        rest = await pulse(after=first["cursor"], limit=3, wait_s=60)
        assert ([row["name"] for row in rest["rows"]], rest["more"]) == (["eve"], False)
        nothing = await pulse(after=rest["cursor"])
        assert [nothing[name] for name in ("rows", "table", "matches", "awaiting_approval", "more")] == [[], None, [], [], False]
        await bob.call_tool("federation_update_state", {"summary": "Free", "action": "IDLE", "offering": "crypto review"})
        news = await pulse(after=nothing["cursor"])
        assert [row["name"] for row in news["rows"]] == ["bob"]
        assert [(match["who"], match["could_ask"]) for match in news["matches"]] == [("ada", "bob")]
        table = await pulse(after=nothing["cursor"], form="table")
        assert [line.split(" | ")[0] for line in table["table"].splitlines()[2:]] == ["| bob"]
        then = {"at": told.structured_content["updated_at"], "limit": 3}
        past = await pulse(**then)
        assert [[row["name"] for row in one["rows"]] for one in (past, await pulse(**then, after=past["cursor"]))] == [["ada", "bob", "dan"], ["eve"]]


async def test_who_wonders_is_told_whom_to_ask(house: Any) -> None:
    async with house.client("ada") as ada, house.client("eve") as eve:
        await eve.call_tool("federation_update_state", {"summary": "Idle", "action": "IDLE", "offering": "crypto review"})
        told = await ada.call_tool("federation_update_state", {"summary": "Refactoring", "wondering": "Who reviews the crypto?"})
        [match] = told.structured_content["matches"]
        assert match == {
            "who": "ada",
            "wondering": "Who reviews the crypto?",
            "could_ask": "eve",
            "offering": "crypto review",
            "shared": ["crypto", "review"],
        }
        assert (await eve.call_tool("federation_pulse")).structured_content["matches"] == [match]
