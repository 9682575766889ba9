"""Tools whose work runs as executions: a real ActiveMQ and a real worker."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from fastmcp.exceptions import ToolError
from sqlalchemy import text

from federation.engines import digests
from federation.mcp.catalogue import TOOLS
from federation.mcp.index_runs import LISTED
from federation.services import inference, summaries
from federation.store.models.executions import Execution
from federation.store.models.inference import ModelRun
from tests.integration.mcp.calls import CALLS

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("patience")]


async def test_each_tool_answers_what_it_declares(spine: Any, tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text('def answer(question):\n    """Answer a question."""\n    return question\n')
    known: dict[str, Any] = {"folder": str(tmp_path)}
    async with spine.client("ada") as ada, spine.client("bob") as bob:
        # What ada decides on somebody else must ask for, and it runs in bob's name.
        await bob.call_tool("federation_send", {"content": "We go through a gate.", "to": "ada", "conversation_id": "gates"})
        await bob.call_tool("federation_send", {"content": "And report what was said.", "conversation_id": "gates"})
        gate = {"description": "Report", "task_type": "report", "executor": "node", "requires_approval": True}
        parked = (await bob.call_tool("federation_delegate", {**gate, "task_id": "gate", "conversation_id": "gates"})).data
        assert (parked.state, parked.execution_id, parked.waiting_for) == ("awaiting_approval", None, "the approval of ada")
        await bob.call_tool("swarm_join_session", {"session_id": "INC-1234", "context": {"task": "look"}})
        await bob.call_tool("swarm_propose_action", {"session_id": "INC-1234", "content": "Repair", "type": "modify", "action_id": "repair"})
        for tool, arguments in CALLS:
            given = {name: known.get(value[1:-1], value) if isinstance(value, str) else value for name, value in arguments.items()}
            # The client compares the answer with the schema.
            known |= (await ada.call_tool(tool, given)).structured_content
    assert {tool for tool, _ in CALLS} == {tool.__name__ for tool, _, _ in TOOLS}
    assert known["complete"]
    assert known["hits"]
    assert known["text"]
    assert (known["slug"], known["state"], known["done_by"]) == ("gate", "completed", "solo")


async def test_nodes_task_is_done_with_what_is_found_in_the_indexed_files(spine: Any, tmp_path: Path) -> None:
    (tmp_path / "cache.py").write_text(
        'def restart_cache():\n    """Restart the cache: stop it, drop its keys, start it."""\n    return stop, drop, start\n'
    )
    task = {"description": "How is the cache restarted?", "executor": "node", "look_up": True, "task_id": "with-sources"}
    async with spine.client("ada") as ada:
        assert (await ada.call_tool("federation_index", {"path": str(tmp_path), "wait_s": 240})).data.searchable
        await ada.call_tool("federation_delegate", task)
        done = (await ada.call_tool("federation_task_result", {"task_id": "with-sources", "wait_s": 240})).structured_content
        stands = (await ada.call_tool("federation_task_status", {"task_id": "with-sources"})).structured_content
    assert (done["finished"], done["state"], done["error"], done["done_by"]) == (True, "completed", None, "solo")
    assert done["result"]["text"]
    place = {"root": str(tmp_path), "path": "cache.py", "title": "restart_cache"}
    assert place.items() <= done["result"]["sources"][0].items()
    assert stands["terms"]["look_up"] is True
    with spine.transactions.begin("ada") as session:
        found = session.execute(
            text("SELECT task_name FROM executions WHERE agent_task_id = :id ORDER BY created_at"), {"id": stands["task_id"]}
        ).scalars()
        assert list(found) == ["federation.tasks.delegation.look_up", "federation.tasks.delegation.run"]


async def test_nodes_task_runs_on_the_node_and_its_result_is_read_back(spine: Any) -> None:
    async with spine.client("ada") as ada:
        await ada.call_tool("federation_send", {"content": "The auth module leaks memory. We profile it tomorrow.", "conversation_id": "project-123"})
        arguments = {"description": "What is the capital of France?", "role": "developer", "conversation_id": "project-123", "task_id": "report"}
        task = (await ada.call_tool("federation_delegate", arguments)).data
        assert (task.executor, task.node, task.note) == ("node", "solo", None)
        outcome = (await ada.call_tool("federation_task_result", {"task_id": "report", "wait_s": 240})).structured_content
        assert (outcome["finished"], outcome["state"], outcome["done_by"]) == (True, "completed", "solo"), outcome
        assert outcome["result"]["text"]
        status = (await ada.call_tool("federation_task_status", {"task_id": "report"})).data
        assert (status.node, status.deliveries, status.worker.partition("@")[0]) == ("solo", 1, "solo")


async def test_model_answers_with_its_name_and_the_digest_of_its_weights(spine: Any) -> None:
    async with spine.client("bob") as bob:
        answer = (await bob.call_tool("federation_infer", {"prompt": "What is the capital of France?", "max_tokens": 16, "wait_s": 240})).data
    assert "Paris" in answer.text
    assert (answer.node, answer.state, len(answer.model_digest)) == ("solo", "completed", 64)
    with spine.transactions.begin("test:hand") as session:
        run = session.get_one(ModelRun, uuid.UUID(str(answer.execution_id)))
        asked = session.get_one(Execution, run.execution_id).kwargs
    # All that is needed to ask the same of the same weights again.
    known = digests.shipped()[run.model].files
    assert (run.engine, run.model_digest) == ("llamacpp", known["SmolLM2-135M-Instruct.Q4_1.gguf"])
    assert run.parameters == {"max_tokens": 16, "temperature": 0.0, "seed": 0}
    assert run.prompt_sha256 == inference.prompt_digest(asked["messages"])


async def test_model_that_does_not_answer_is_refused_and_another_is_not_asked_instead(spine: Any) -> None:
    async with spine.client("bob") as bob:
        with pytest.raises(ToolError, match="no chat engine 'all-MiniLM-L6-v2'; there is SmolLM2-135M-Instruct, llamacpp"):
            await bob.call_tool("federation_infer", {"prompt": "?", "model": "all-MiniLM-L6-v2"})
        said = (
            await bob.call_tool(
                "federation_infer", {"prompt": "What do bees make?", "model": "smollm2-135m-instruct", "max_tokens": 4, "wait_s": 240}
            )
        ).data
        assert said.model == "SmolLM2-135M-Instruct"
        task = {"description": "?", "model": "all-MiniLM-L6-v2", "task_id": "wrong-model", "conversation_id": "models"}
        await bob.call_tool("federation_delegate", task)
        outcome = (await bob.call_tool("federation_task_result", {"task_id": "wrong-model", "wait_s": 240})).structured_content
        assert (outcome["finished"], outcome["state"]) == (True, "failed")
        assert "no chat engine" in outcome["result"]["error"]


async def test_files_are_indexed_and_found(spine: Any, tmp_path: Path) -> None:
    (tmp_path / "leases.py").write_text(
        'def renew_lease(holder):\n    """Extend the time of a lease that the holder still has."""\n    return holder\n'
    )
    (tmp_path / "colours.py").write_text('def mix(red, blue):\n    """Return purple."""\n    return red + blue\n')
    async with spine.client("ada") as ada:
        run = (await ada.call_tool("federation_index", {"path": str(tmp_path), "wait_s": 240})).structured_content
        assert (run["searchable"], run["files"]) == (True, 2), run
        # By its words at once, and by its meaning when that is there.
        found = (await ada.call_tool("federation_search", {"query": "renew lease", "limit": 1})).structured_content
        assert [hit["path"] for hit in found["hits"]] == ["leases.py"]
        run = (await ada.call_tool("federation_index", {"run_id": run["run_id"], "wait_s": 240})).structured_content
        assert (run["finished"], run["state"]) == (True, "finished"), run
        found = (await ada.call_tool("federation_search", {"query": "who extends a lease", "limit": 1})).structured_content
        assert [hit["path"] for hit in found["hits"]] == ["leases.py"]
        assert (await ada.call_tool("federation_task_result", {"task_id": run["run_id"]})).structured_content["finished"]


def unsettled(spine: Any) -> int:
    with spine.transactions.begin("test:setup") as session:
        return session.scalar(text("SELECT count(*) FROM memories WHERE vector_at IS NULL"))


async def test_what_is_remembered_is_recalled_in_other_words_by_who_may(spine: Any) -> None:
    async with spine.client("ada") as ada, spine.client("bob") as bob:

        async def recalled(who: Any, query: str) -> list[str]:
            answer = (await who.call_tool("federation_recall", {"query": query, "limit": 1})).structured_content
            assert answer["note"] is None
            return [each["content"] for each in answer["memories"]]

        mine = (await ada.call_tool("federation_remember", {"content": "The otters are fed at noon"})).structured_content
        await ada.call_tool("federation_remember", {"content": "The colour of the roof is green", "visibility": "all"})
        async with asyncio.timeout(240):
            while unsettled(spine):
                await asyncio.sleep(0.05)
        assert await recalled(ada, "when do the animals get their meal?") == ["The otters are fed at noon"]
        assert await recalled(bob, "when do the animals get their meal?") == ["The colour of the roof is green"]
        await ada.call_tool("federation_forget", {"memory_id": mine["memory_id"]})
        assert await recalled(ada, "when are the otters fed at noon?") == ["The colour of the roof is green"]


async def test_who_indexes_a_folder_is_told_what_was_skipped(spine: Any, tmp_path: Path) -> None:
    (tmp_path / "otters.py").write_text('def feed(otters):\n    """Give the otters their fish."""\n')
    (tmp_path / "credentials.json").write_text("{}")
    (tmp_path / "picture.png").write_bytes(b"\0\1")
    async with spine.client("ada") as ada:
        run = (await ada.call_tool("federation_index", {"path": str(tmp_path), "wait_s": 240})).structured_content
        assert (run["files"], run["skipped_count"]) == (1, 2)
        assert {each["path"]: each["reason"].partition(":")[0] for each in run["skipped"]} == {
            "credentials.json": "looks like a secret",
            "picture.png": "binary",
        }
        for number in range(LISTED):
            (tmp_path / f"{number}.png").write_bytes(b"\0\1")
        run = (await ada.call_tool("federation_index", {"path": str(tmp_path), "wait_s": 240})).structured_content
        assert (run["skipped_count"], len(run["skipped"])) == (2 + LISTED, LISTED)


async def test_who_indexes_a_folder_says_who_finds_it(spine: Any, tmp_path: Path) -> None:
    (tmp_path / "otters.py").write_text('def feed(otters):\n    """Give the otters their fish."""\n')
    async with spine.client("ada") as ada, spine.client("bob") as bob:

        async def index(**for_whom: str) -> str:
            run = (await ada.call_tool("federation_index", {"path": str(tmp_path), "wait_s": 240, **for_whom})).structured_content
            assert run["searchable"], run
            return run["visibility"]

        async def found(who: Any) -> bool:
            return bool((await who.call_tool("federation_search", {"query": "who feeds otters", "root": str(tmp_path)})).structured_content["hits"])

        assert await index() == "all"
        assert await found(bob)
        assert await index(visibility="nobody") == "nobody"
        assert await found(ada)
        with pytest.raises(ToolError, match="no indexed folder"):
            await found(bob)
        assert await index() == "nobody", "it is not shown by being indexed again"
        await ada.call_tool("federation_send", {"content": "look at this", "conversation_id": "otters", "to": "bob"})
        assert await index(conversation_id="otters") == "members"
        assert await found(bob)


async def test_conversation_is_summarised_and_the_summary_read_back(spine: Any) -> None:
    async with spine.client("ada") as ada, spine.client("bob") as bob:
        for word in ("The auth module leaks memory.", "Bob profiles it tomorrow.", "We ship on Friday."):
            await ada.call_tool("federation_send", {"content": word, "conversation_id": "incident-9"})
        await ada.call_tool("federation_send", {"content": "join us", "conversation_id": "incident-9", "to": "bob"})
        told = (await bob.call_tool("federation_summarize", {"conversation_id": "incident-9", "wait_s": 300})).structured_content
        assert told["complete"], told
        assert [summary["from_position"] for summary in told["summaries"]] == [1]
        assert "auth module" in told["summaries"][0]["text"]
        again = (await ada.call_tool("federation_summarize", {"conversation_id": "incident-9", "wait_s": 240})).structured_content
        assert (again["complete"], again["execution_id"], again["summaries"]) == (True, None, told["summaries"])


async def test_summary_is_complete_when_anothers_window_crossed_the_callers(spine: Any) -> None:
    conversation = "crossing"
    async with spine.client("ada") as ada:
        for number in range(6):
            said = f"Sentence number {number} is about the leak in the auth module."
            await ada.call_tool("federation_send", {"content": said, "conversation_id": conversation})
        with spine.transactions.begin("service:beat") as session:
            # Beat's window is written and not committed when the worker, whose window reaches further, writes its own.
            assert summaries.record(session, beats_summary(conversation, upto=4))
            asked = asyncio.create_task(ada.call_tool("federation_summarize", {"conversation_id": conversation, "wait_s": 240}))
            await blocked(spine)
            assert not asked.done()
        told = (await asked).structured_content
        assert told["complete"], told
        assert [(each["from_position"], each["to_position"], each["created_by"]) for each in told["summaries"]] == [
            (1, 4, "service:beat"),
            (5, 6, "ada"),
        ]


def beats_summary(conversation: str, *, upto: int) -> dict[str, Any]:
    return {
        "conversation_id": conversation,
        "from_position": 1,
        "to_position": upto,
        "text": "beat's",
        "method": "extractive",
        "model": "m",
        "model_digest": "d",
        "message_ids": [],
    }


async def blocked(spine: Any) -> None:
    """Return when some transaction of this database waits for another one."""
    waiting = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")
    async with asyncio.timeout(120):
        while True:
            # Each role sees only its own wait.
            for engine in (spine.transactions.engine, spine.transactions.service):
                with engine.connect() as connection:
                    if connection.execute(waiting).scalar_one():
                        return
            await asyncio.sleep(0.05)


async def test_nothing_capable_alive_is_told_in_words(spine: Any) -> None:
    async with spine.client("ada") as ada:
        task = (await ada.call_tool("federation_delegate", {"description": "d", "min_vram_gib": 80})).data
        assert (task.state, task.node) == ("unplaced", None)
        assert "80" in task.waiting_for
        status = (await ada.call_tool("federation_task_status", {"task_id": str(task.task_id)})).data
        assert (status.state, status.waiting_for) == ("unplaced", task.waiting_for)
