"""Work through the front door: to a capability, in parts, for a time; roles as the whitepaper has them; the phases of a conversation."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
from anyio import to_thread
from fastmcp.exceptions import ToolError

from federation.services import agents, approvals, conversations, phase_moves, task_claims, task_ends, task_lists
from federation.services.approvals import Decision

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "roles_and_phases.py"
# As the whitepaper has them in §4.4, letter by letter.
SHOWN = (
    """federation_assign_role(
    conversation_id="project-123",
    agent="baby",
    role="analyst",
    subtask="Profile memory allocation in auth module"
)""",
    """federation_claim_task(
    task_id="memory-profile",
    description="Running valgrind analysis"
)""",
)


def example() -> ModuleType:
    specification = importlib.util.spec_from_file_location("roles_and_phases", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


async def test_the_whitepapers_calls_of_4_4_work_as_they_stand_and_a_round_of_phases_ends(house: Any, database: str) -> None:
    with house.transactions.begin("test:setup") as session:
        tokens = {name: agents.add(session, name, role) for name, role in (("taichi", "lead"), ("baby", "analyst"), ("aorus", "developer"))}
    got = await to_thread.run_sync(example().main, f"{house.url}/mcp", tokens)
    assert (got["assigned"]["agent"], got["assigned"]["role"], got["assigned"]["state"]) == ("baby", "analyst", "assigned")
    assert got["inbox"][0]["content"].startswith("Task " + got["assigned"]["task_id"])
    assert "for you as analyst: Profile memory allocation in auth module" in got["inbox"][0]["content"]
    assert (got["claim"]["claimed"], got["claim"]["holder"]) == (True, "baby")
    assert got["phases"] == ["propose", "discuss", "decide", "execute", "review"]
    assert "Propose before you implement: project-123 is in its phase propose" in got["refused"]
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT description, status, assigned_to FROM agent_tasks ORDER BY created_at").fetchall()
    assert rows == [
        ("Profile memory allocation in auth module", "cancelled", "baby"),
        ("Profile memory with valgrind", "completed", "baby"),
        ("Free the buffer in close()", "cancelled", None),
    ]


async def test_the_example_has_the_calls_letter_by_letter() -> None:
    text = "\n".join(line.removeprefix(" " * 8) for line in EXAMPLE.read_text().splitlines())
    for call in SHOWN:
        assert call in text


async def test_only_the_lead_designates(house: Any) -> None:
    given = {"conversation_id": "project-123", "agent": "dan", "role": "developer", "subtask": "Build it"}
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("dan") as dan:
        with pytest.raises(ToolError, match=r"^Explicit assignment prevents duplicate work: bob, .* may not hand a task to another"):
            await bob.call_tool("federation_assign_role", given)
        first, again = [(await ada.call_tool("federation_assign_role", {**given, "task_id": "build"})).structured_content for _ in range(2)]
        assert first == again
        assert (first["state"], first["slug"], first["warning"]) == ("assigned", "build", None)
        assert len((await dan.call_tool("federation_inbox")).structured_content["messages"]) == 1
        for name in ("bob", "eve"):
            crowded = (await ada.call_tool("federation_assign_role", {**given, "agent": name, "subtask": f"Help, {name}"})).structured_content
        assert crowded["warning"].startswith("4 members are in project-123 now")
        roles = (await dan.call_tool("federation_phase", {"conversation_id": "project-123"})).structured_content["roles"]
        assert [(one["agent"], one["role"], one["task"]) for one in roles][1] == ("dan", "developer", "build")


async def test_a_task_for_a_capability_says_who_is_missing_and_who_comes_later_hears_of_it(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        task = {"description": "Read the logs", "task_id": "logs", "capability": "analyze_logs", "timeout_s": 600}
        asked = (await ada.call_tool("federation_delegate", task)).structured_content
        assert (asked["executor"], asked["state"], asked["expires_at"] is None) == ("agent", "pending", False)
        assert asked["note"] == "There is no agent who says that he can analyze_logs yet; the first one that comes may claim it."
        await bob.call_tool("federation_update_state", {"summary": "Here", "capabilities": ["analyze_logs"]})
        [message] = (await bob.call_tool("federation_inbox")).structured_content["messages"]
        assert "for who can analyze_logs: Read the logs" in message["content"]
        stands = (await bob.call_tool("federation_task_status", {"task_id": "logs"})).structured_content
        assert (stands["terms"]["capability"], stands["terms"]["timeout_s"]) == ("analyze_logs", 600)


async def test_status_shows_the_parts_of_a_task_and_how_far_it_is(house: Any) -> None:
    async with house.client("ada") as ada:
        await ada.call_tool("federation_delegate", {"description": "Ship it", "task_id": "ship", "conversation_id": "release"})
        for slug, parent in (("build", "ship"), ("compile", "build"), ("test", "ship")):
            part = (await ada.call_tool("federation_delegate", {"description": f"Do {slug}", "task_id": slug, "parent": parent})).structured_content
            assert part["conversation_id"] == "release"
        with house.transactions.begin("ada") as session:
            task_ends.cancel(session, "test")
        stands = (await ada.call_tool("federation_task_status", {"task_id": "ship"})).structured_content
        assert (stands["state"], stands["overall"], stands["parts_left_out"]) == ("pending", "running", 0)
        assert [(part["level"], part["slug"], part["state"]) for part in stands["parts"]] == [
            (1, "build", "pending"),
            (2, "compile", "pending"),
            (1, "test", "cancelled"),
        ]
        with pytest.raises(ToolError, match="task ship has parts that have not ended: build"):
            with house.transactions.begin("ada") as session:
                token = task_claims.claim(session, "ship", description="", ttl_s=60).fencing_token
            await ada.call_tool("federation_complete_task", {"task_id": "ship", "fencing_token": token, "result": {}})


async def test_who_waits_for_a_task_is_told_that_it_has_expired(house: Any) -> None:
    import asyncio

    async with house.client("ada") as ada:
        task = (await ada.call_tool("federation_delegate", {"description": "d", "task_id": "late", "timeout_s": 60})).data
        waiting = asyncio.create_task(ada.call_tool("federation_task_result", {"task_id": "late", "wait_s": 60}))
        await house.heard(f"task:{task.task_id}")
        with psycopg.connect(house.database_url) as connection:
            connection.execute("SELECT set_config('federation.actor', 'test:hand', false)")
            connection.execute("UPDATE agent_tasks SET expires_at = clock_timestamp(), updated_by = 'test:hand'")
        with house.transactions.begin("service:beat") as session:
            assert [task_ends.expire(session, each) for each in task_ends.overdue(session)] == [True]
        outcome = (await waiting).structured_content
    assert (outcome["finished"], outcome["state"]) == (True, "expired")
    assert outcome["error"] == "it was not done within the 60 s that it had"


async def test_contradictions_are_named(house: Any) -> None:
    async with house.client("ada") as ada:
        for given, says in (
            ({"executor": "person", "engine": "llamacpp"}, "engine: got 'llamacpp', wants a task of executor 'node'"),
            ({"executor": "person", "role": "analyst"}, "role: got 'analyst', wants no role, or human"),
            ({"capability": "fly", "agent": "bob"}, "capability: got 'fly', wants no capability where agent is given"),
            ({"look_up": True}, "look_up: got True, wants a task that a node's model answers"),
        ):
            with pytest.raises(ToolError, match=says):
                await ada.call_tool("federation_delegate", {"description": "d", **given})


async def test_what_a_phase_holds_says_what_it_waits_for(house: Any) -> None:
    with house.transactions.begin("ada") as session:
        conversations.open_for(session, "release", ["bob"])
        phase_moves.move(session, "release", "propose")
    fix = {"description": "Fix it", "task_type": "remediate", "executor": "node", "task_id": "fix", "conversation_id": "release"}
    async with house.client("bob") as bob:
        with pytest.raises(ToolError, match="release is in its phase propose, in which work of the kind remediate is not begun: propose it"):
            await bob.call_tool("federation_delegate", fix)
        parked = (await bob.call_tool("federation_delegate", {**fix, "requires_approval": True})).data
        assert parked.waiting_for == "the approval of ada, after the phase propose"
        with house.transactions.begin("cli:root") as session:
            approvals.settle(session, task_lists.anywhere(session, "fix")[0], Decision.APPROVE, reason="")
        stands = (await bob.call_tool("federation_task_status", {"task_id": "fix"})).data
        assert (stands.state, stands.execution_id) == ("pending", None)
        assert stands.note == "it begins when its conversation is moved on to a phase that does not hold this kind of work: see federation_phase"
