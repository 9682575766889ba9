"""Work handed to agents: found in the inbox, claimed by one, completed with the token, hidden from strangers."""

import asyncio
import uuid
from typing import Any

import pytest
from fastmcp.exceptions import ToolError
from sqlalchemy import text

from federation.results.waiting import Subscription
from federation.services import indexing, summaries
from federation.services.indexed_documents import NewDocument
from federation.vectors.chunking import Chunk

pytestmark = pytest.mark.anyio


async def test_answer_that_comes_without_a_notice_is_told_when_the_wait_is_over(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = """
        INSERT INTO celery_results (task_id, state, result, date_done)
        SELECT id::text, 'SUCCESS', '{"text": "Paris"}', now() FROM executions ON CONFLICT DO NOTHING
    """

    async def hear_nothing(_: Subscription, timeout_s: float) -> bool:
        with house.transactions.begin("service:test") as session:
            session.execute(text(stored))
        await asyncio.sleep(timeout_s)
        return False

    async with house.client("ada") as ada:
        monkeypatch.setattr(Subscription, "wait", hear_nothing)
        answer = (await ada.call_tool("federation_infer", {"prompt": "?", "wait_s": 2})).data
        assert (answer.text, answer.state) == ("Paris", "completed")


async def test_task_for_agents_is_announced_claimed_and_completed(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("dan") as dan:
        task = (
            await ada.call_tool(
                "federation_delegate", {"description": "Profile memory", "role": "developer", "executor": "agent", "task_id": "memory-profile"}
            )
        ).data
        assert (task.slug, task.state, task.executor, task.node) == ("memory-profile", "pending", "agent", None)
        (message,) = (await bob.call_tool("federation_inbox")).structured_content["messages"]
        assert message["message_type"] == "task"
        assert message["data"]["task_id"] == str(task.task_id)

        claim = {"task_id": "memory-profile"}
        won = (await bob.call_tool("federation_claim_task", claim)).data
        assert not (await dan.call_tool("federation_claim_task", claim)).data.claimed
        assert (await ada.call_tool("federation_task_status", {"task_id": "memory-profile"})).data.assigned_to == "bob"
        completion = {"task_id": "memory-profile", "fencing_token": won.fencing_token, "result": {"leaks": 0}}
        with pytest.raises(ToolError, match="Claim before you code: bob holds"):
            await dan.call_tool("federation_complete_task", completion)
        waiting = asyncio.create_task(ada.call_tool("federation_task_result", {"task_id": "memory-profile", "wait_s": 120}))
        assert (await bob.call_tool("federation_complete_task", completion)).data.state == "completed"
        outcome = (await waiting).structured_content
    assert (outcome["finished"], outcome["state"], outcome["result"], outcome["done_by"]) == (True, "completed", {"leaks": 0}, "bob")


async def test_who_claims_a_task_reads_its_parameters(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        await ada.call_tool("federation_delegate", {"description": "Profile memory", "task_id": "t", "parameters": {"module": "auth"}})
        (message,) = (await bob.call_tool("federation_inbox")).structured_content["messages"]
        assert message["content"].endswith("Its parameters are in federation_task_status('t').")
        assert (await bob.call_tool("federation_claim_task", {"task_id": "t"})).data.claimed
        terms = (await bob.call_tool("federation_task_status", {"task_id": "t"})).structured_content["terms"]
    # What is empty takes no room.
    assert terms == {"task_type": "investigate", "executor": "agent", "priority": 5, "parameters": {"module": "auth"}}


async def test_released_task_may_be_claimed_by_another(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("dan") as dan:
        await ada.call_tool("federation_delegate", {"description": "d", "task_id": "t"})
        first = (await bob.call_tool("federation_claim_task", {"task_id": "t"})).data
        assert (await bob.call_tool("federation_release_task", {"task_id": "t"})).data.released
        assert not (await bob.call_tool("federation_release_task", {"task_id": "t"})).data.released
        assert (await dan.call_tool("federation_claim_task", {"task_id": "t"})).data.fencing_token == first.fencing_token + 1


async def test_task_for_one_agent_reaches_only_that_agent(house: Any) -> None:
    async with house.client("ada") as ada, house.client("eve") as eve, house.client("bob") as bob:
        arguments = {"description": "d", "agent": "eve", "task_id": "t", "conversation_id": "incident-7"}
        assert (await ada.call_tool("federation_delegate", arguments)).data.state == "assigned"
        assert (await eve.call_tool("federation_inbox")).data.messages
        assert not (await bob.call_tool("federation_inbox")).data.messages


async def test_stranger_sees_neither_task_nor_execution(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        arguments = {"description": "d", "agent": "eve", "task_id": "secret", "conversation_id": "incident-7"}
        task = (await ada.call_tool("federation_delegate", arguments)).data
        asked = (await ada.call_tool("federation_infer", {"prompt": "?", "wait_s": 0})).data
        assert asked.text is None
        assert (await ada.call_tool("federation_task_status", {"task_id": str(asked.execution_id)})).data.state == "recorded"
        for reference in ("secret", str(task.task_id), str(asked.execution_id)):
            for tool in ("federation_task_status", "federation_task_result"):
                with pytest.raises(ToolError, match=f"no task '{reference}'") as raised:
                    await bob.call_tool(tool, {"task_id": reference})
                assert "nearest: secret" not in str(raised.value)
        with pytest.raises(ToolError, match="no conversation 'incident-7'; there is commons"):
            await bob.call_tool("federation_summarize", {"conversation_id": "incident-7"})


async def test_slug_that_is_taken_is_refused_and_the_first_stays(house: Any) -> None:
    async with house.client("ada") as ada:
        await ada.call_tool("federation_delegate", {"description": "first", "task_id": "t"})
        with pytest.raises(ToolError, match="exists in conversation commons already"):
            await ada.call_tool("federation_delegate", {"description": "second", "task_id": "t"})
        assert (await ada.call_tool("federation_task_status", {"task_id": "t"})).data.description == "first"


async def test_late_answers_come_with_a_handle(house: Any) -> None:
    async with house.client("ada") as ada:
        for tool, arguments in (
            ("federation_infer", {"prompt": "?", "wait_s": 0.1}),
            ("federation_summarize", {"conversation_id": "commons", "wait_s": 0.1}),
        ):
            await ada.call_tool("federation_send", {"content": "something to summarise"})
            late = (await ada.call_tool(tool, arguments)).structured_content
            assert uuid.UUID(late["execution_id"])
            assert (late["state"], late["note"]) == ("recorded", "recorded; ActiveMQ has not taken it yet, and it will be sent as soon as it does")


async def test_run_of_the_indexer_is_looked_at_by_its_id(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        run = (await ada.call_tool("federation_index", {"path": "/srv/code"})).data
        assert (run.state, run.finished, run.path) == ("scan recorded", False, "/srv/code")
        again = (await ada.call_tool("federation_index", {"run_id": str(run.run_id)})).data
        assert again.run_id == run.run_id
        assert (await ada.call_tool("federation_task_status", {"task_id": str(run.run_id)})).data.state == "scan recorded"
        with pytest.raises(ToolError, match="no execution"):
            await bob.call_tool("federation_index", {"run_id": str(run.run_id)})


async def test_summary_is_complete_when_the_windows_of_others_cover_what_the_caller_asked_for(house: Any) -> None:
    def record(start: int, end: int) -> None:
        row = {"conversation_id": "project-123", "from_position": start, "to_position": end, "text": "t", "message_ids": []}
        with house.transactions.begin("service:beat") as session:
            assert summaries.record(session, {**row, "method": "extractive", "model": "m", "model_digest": "d"})

    async with house.client("ada") as ada:
        for number in range(6):
            await ada.call_tool("federation_send", {"content": f"Sentence {number}.", "conversation_id": "project-123"})
        # Nothing runs here: what the caller asks for never comes.
        asked = asyncio.create_task(ada.call_tool("federation_summarize", {"conversation_id": "project-123", "wait_s": 600}))
        await house.heard("summaries:project-123")
        record(1, 4)
        looked = (await ada.call_tool("federation_summarize", {"conversation_id": "project-123", "wait_s": 0})).structured_content
        assert (looked["complete"], looked["state"], len(looked["summaries"])) == (False, "recorded", 1)
        record(5, 6)
        told = (await asked).structured_content
    assert (told["complete"], len(told["summaries"])) == (True, 2)


async def test_who_joins_late_reads_within_so_many_tokens_and_is_told_what_is_left_out(house: Any) -> None:
    ask = {"conversation_id": "project-123", "wait_s": 0}
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("eve") as eve:
        for number in range(40):
            await ada.call_tool("federation_send", {"content": f"{number} „ä“ ".ljust(200, "x"), "conversation_id": "project-123"})
        await ada.call_tool("federation_send", {"content": "join us", "conversation_id": "project-123", "to": "bob"})
        whole = (await bob.call_tool("federation_summarize", {**ask, "tokens": 10_000})).structured_content
        assert (whole["complete"], whole["execution_id"], whole["summaries"], whole["left_out"]) == (True, None, [], [])
        assert [message["position"] for message in whole["messages"]] == list(range(1, 42))
        assert "to" not in whole["messages"][0]
        # Nothing runs here: what would summarise the rest never does, and the answer says so.
        answer = await bob.call_tool("federation_summarize", {**ask, "tokens": 1_000})
        part = answer.structured_content
        assert len(answer.content[0].text) <= 4_000
        first = part["messages"][0]["position"]
        assert (part["complete"], part["state"], part["summaries"]) == (False, "recorded", [])
        assert part["left_out"] == [{"from_position": 1, "to_position": first - 1, "messages": first - 1}]
        with house.transactions.begin("service:beat") as session:
            row = {"conversation_id": "project-123", "from_position": 1, "to_position": 40, "text": "t", "message_ids": []}
            assert summaries.record(session, {**row, "method": "extractive", "model": "m", "model_digest": "d"})
        answer = await bob.call_tool("federation_summarize", {**ask, "tokens": 1_000})
        assert 2_000 < len(answer.content[0].text) <= 4_000
        read = answer.structured_content
        assert (read["complete"], read["execution_id"], read["left_out"]) == (True, None, [])
        assert ([each["to_position"] for each in read["summaries"]], read["messages"][-1]["content"]) == ([40], "join us")
        for arguments, says in (
            ({**ask, "tokens": 199}, "tokens: got 199, wants a whole number from 200 to 40000"),
            ({**ask, "tokens": True}, "tokens: got True"),
        ):
            refused = await bob.call_tool("federation_summarize", arguments, raise_on_error=False)
            assert (refused.is_error, says in refused.content[0].text) == (True, True), refused.content[0].text
        stranger = await eve.call_tool("federation_summarize", {**ask, "tokens": 1_000}, raise_on_error=False)
        assert (stranger.is_error, "no conversation 'project-123'" in stranger.content[0].text) == (True, True)


async def test_a_summary_of_summaries_leads_to_what_it_was_made_of(house: Any) -> None:
    about = {"conversation_id": "project-123"}
    async with house.client("ada") as ada:
        for number in range(4):
            await ada.call_tool("federation_send", {"content": f"Sentence {number}.", **about})
        row = {**about, "text": "t", "message_ids": [], "method": "extractive", "model": "m", "model_digest": "d"}
        with house.transactions.begin("service:beat") as session:
            for level, start, end in ((1, 1, 2), (1, 3, 4), (2, 1, 4)):
                assert summaries.record(session, {**row, "level": level, "from_position": start, "to_position": end})
        [whole] = (await ada.call_tool("federation_summarize", {**about, "wait_s": 0})).structured_content["summaries"]
        assert (whole["level"], whole["from_position"], whole["to_position"]) == (2, 1, 4)
        parts = (await ada.call_tool("federation_summarize", {**about, "part_of": whole["summary_id"]})).structured_content
        assert [(each["level"], each["from_position"]) for each in parts["summaries"]] == [(1, 1), (1, 3)]
        assert (parts["complete"], parts["execution_id"], "messages" in parts) == (True, None, False)
        for more, says in (
            ({"part_of": parts["summaries"][1]["summary_id"]}, "that one is of messages: federation_history(after=2)"),
            ({"part_of": str(uuid.uuid4())}, "no summary '"),
            ({"part_of": whole["summary_id"], "tokens": 200}, "wants no `tokens` beside it"),
        ):
            refused = await ada.call_tool("federation_summarize", {**about, **more}, raise_on_error=False)
            assert (refused.is_error, says in refused.content[0].text) == (True, True), refused.content[0].text


async def test_summary_is_complete_where_only_private_messages_came_since(house: Any) -> None:
    async with house.client("ada") as ada:
        await ada.call_tool("federation_send", {"content": "for bob alone", "to": "bob", "conversation_id": "project-123"})
        told = (await ada.call_tool("federation_summarize", {"conversation_id": "project-123", "wait_s": 600})).structured_content
    assert (told["complete"], told["execution_id"], told["summaries"]) == (True, None, [])


async def test_call_that_is_repeated_under_its_name_is_answered_alike_and_done_once(house: Any, publisher: Any) -> None:
    send = {"content": "deploy at noon", "message_id": "deploy-note"}
    delegate = {"description": "Profile memory", "task_id": "profile", "role": "analyst", "executor": "agent", "parameters": {"module": "auth"}}
    run = {"description": "Summarise", "task_id": "summary", "executor": "node"}
    async with house.client("ada") as ada, house.client("eve") as eve:
        for tool, arguments in (("federation_send", send), ("federation_delegate", delegate), ("federation_delegate", run)):
            answers = [(await ada.call_tool(tool, arguments)).structured_content for _ in range(3)]
            assert answers[0] == answers[1] == answers[2]
        inbox = (await eve.call_tool("federation_inbox")).structured_content["messages"]
        assert [message["message_type"] for message in inbox] == ["chat", "task"]
        with pytest.raises(ToolError, match=r"you sent another message as 'deploy-note' in commons \(content differ\)"):
            await ada.call_tool("federation_send", {**send, "content": "deploy at one"})
        with pytest.raises(ToolError, match=r"task 'profile' exists in conversation commons already.*\(priority differ\)"):
            await ada.call_tool("federation_delegate", {**delegate, "priority": 9})
    assert len(publisher.published) == 1


async def test_what_ended_long_ago_is_finished_though_its_result_is_gone(house: Any) -> None:
    async with house.client("ada") as ada:
        asked = (await ada.call_tool("federation_infer", {"prompt": "?", "wait_s": 0})).structured_content["execution_id"]
        run = (await ada.call_tool("federation_index", {"path": "/srv/code"})).structured_content["run_id"]
        with house.transactions.begin("test:hand") as session:
            session.execute(text("delete from outbox"))
            session.execute(text("update executions set outcome = 'SUCCESS', ended_at = clock_timestamp() - interval '8 days'"))
            indexing.record_scan(session, uuid.UUID(run), "/srv/code", paths=[], documents=[], skipped=[])
            indexing.record_written(session, uuid.UUID(run), [])
        told = (await ada.call_tool("federation_task_result", {"task_id": asked, "wait_s": 600})).structured_content
        assert (told["finished"], told["state"], told["result"], told["error"]) == (True, "completed", None, None)
        assert "kept no longer" in told["note"]
        assert (await ada.call_tool("federation_index", {"run_id": run})).data.finished


async def test_run_of_the_indexer_tells_what_its_batches_wait_for(house: Any) -> None:
    async with house.client("ada") as ada:
        run = (await ada.call_tool("federation_index", {"path": "/srv/code"})).structured_content["run_id"]
        chunk = Chunk("a.py", "function", "f", 1, 2, "def f(): ...", "hash")
        with house.transactions.begin("ada") as session:
            document = NewDocument("a.py", "digest", 10, [chunk])
            indexing.record_scan(session, uuid.UUID(run), "/srv/code", paths=["a.py"], documents=[document], skipped=[])
        assert (await ada.call_tool("federation_index", {"run_id": run})).data.state == "indexing words"
        with house.transactions.begin("ada") as session:
            indexing.record_searchable(session, uuid.UUID(run))
            indexing.call_for_vectors(session, uuid.UUID(run))
        with house.transactions.begin("test:hand") as session:
            session.execute(
                text("update outbox set waiting_for = 'no live node has engine=minilm' where execution_id <> :id"), {"id": uuid.UUID(run)}
            )
        for tool, arguments in (("federation_index", {"run_id": run}), ("federation_task_status", {"task_id": run})):
            told = (await ada.call_tool(tool, arguments)).structured_content
            assert (told["state"], told["waiting_for"]) == ("embedding", "no live node has engine=minilm")
        stands = (await ada.call_tool("federation_index", {"run_id": run})).data
        assert (stands.searchable, stands.finished) == (True, False)


async def test_task_that_nobody_could_claim_is_refused_or_says_so(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        with pytest.raises(ToolError, match="role: got 'analyst', wants developer, the role of bob"):
            await ada.call_tool("federation_delegate", {"description": "d", "agent": "bob", "role": "analyst"})
        with pytest.raises(ToolError, match="no role 'observer'; "):
            await ada.call_tool("federation_delegate", {"description": "d", "executor": "node", "role": "observer"})
        alone = {"description": "d", "executor": "agent", "role": "developer", "task_id": "alone", "conversation_id": "fresh"}
        delegated = (await ada.call_tool("federation_delegate", alone)).data
        assert delegated.note.startswith("Nobody in fresh may claim it: no agent of the role developer is a member. Bring one in")
        await ada.call_tool("federation_send", {"content": "Please look at the task alone.", "to": "bob", "conversation_id": "fresh"})
        assert (await bob.call_tool("federation_task_status", {"task_id": "alone"})).data.state == "pending"
        assert (await bob.call_tool("federation_claim_task", {"task_id": "alone"})).data.claimed
        assert (await ada.call_tool("federation_delegate", {**alone, "task_id": "another"})).data.note is None


async def test_node_task_with_a_time_says_when_it_begins(house: Any) -> None:
    when = "2099-01-31T18:00:00+01:00"
    later = {"description": "Back up the notes", "executor": "node", "task_id": "backup", "start_at": when}
    async with house.client("ada") as ada:
        first, again = [(await ada.call_tool("federation_delegate", later)).structured_content for _ in range(2)]
        assert first == again
        assert (first["state"], first["waiting_for"]) == ("unplaced", "its time, 2099-01-31T17:00:00Z")
        assert first["note"].startswith("recorded; a node is chosen at 2099-01-31T17:00:00")
        with pytest.raises(ToolError, match=r"task 'backup' exists in conversation commons already.*\(start_at differ\)"):
            await ada.call_tool("federation_delegate", {**later, "start_at": None})
        with pytest.raises(ToolError, match=r"start_at: got .*, wants a task of executor 'node'; others begin when they claim"):
            await ada.call_tool("federation_delegate", {"description": "d", "agent": "bob", "start_at": when})
        for wrong in ("tomorrow", "2099-01-31T18:00:00", "9999-12-31T23:59:59-12:00", 12, "3600", "4102444800.5"):
            with pytest.raises(ToolError, match=r"start_at: got .*, wants a date and time with a zone, such as 2030-01-31T18:00:00.01:00"):
                await ada.call_tool("federation_delegate", {**later, "task_id": "wrong", "start_at": wrong})
        assert (await ada.call_tool("federation_cancel_task", {"task_id": "backup"})).structured_content["state"] == "cancelled"
