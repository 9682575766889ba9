"""What each tool answers from the seats of strangers (a lead and an observer among them) and of a member: what one may not see is not there."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pytest
from fastmcp.client.client import CallToolResult

from federation.mcp.tools import memories as memory_tools
from federation.mcp.tools import retrieval
from federation.services import (
    agents,
    artifacts,
    consensus,
    cop,
    executions,
    findings,
    indexing,
    inference,
    memories,
    messages,
    session_actions,
    sessions,
    task_claims,
    tasks,
    votes,
)
from federation.services.artifacts import Offered
from federation.services.electorates import Asked
from federation.services.findings import Said
from federation.services.retrieval import request_index
from federation.services.session_actions import Proposed
from federation.services.sessions import Start

pytestmark = pytest.mark.anyio

# bob and dan are members of the conversation; these are not, one of them a lead, one an observer.
STRANGERS = ("eve", "ada", "zoe")
MEMBER = "dan"
# Names like no others, so that none is the nearest of another.
CONVERSATION, SLUG, SAID = "qqq-kept", "www-kept", "swordfish"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody works here, so there is nothing to wait for."""
    monkeypatch.setattr(retrieval, "FOUND_WITHIN_S", 0.0)
    monkeypatch.setattr(memory_tools, "RANKED_WITHIN_S", 0.0)


@dataclass(frozen=True)
class Kept:
    """What bob keeps in a conversation with dan, as names of it → names of what never was."""

    conversation: str
    slug: str
    task: str
    gate: str
    node_task: str
    execution: str
    asked: str
    run: str
    folder: str
    message: str
    request: str
    vote: str
    named_vote: str
    session: str
    named_session: str
    action: str
    named_action: str
    hypothesis: str
    memory: str

    def never(self) -> dict[str, str]:
        """Return for each of these one that does not exist, which looks alike."""
        return {name: name.replace("kept", "none") if "kept" in name else str(uuid.uuid4()) for name in vars(self).values()}


@pytest.fixture(scope="module")
def house(lasting_house: Any) -> Iterator[Any]:
    with lasting_house.transactions.begin("test:setup") as session:
        lasting_house.tokens["zoe"] = agents.add(session, "zoe", "observer")
    return lasting_house


@pytest.fixture(scope="module")
def kept(house: Any) -> Kept:
    with house.transactions.begin("bob") as session:
        messages.send(session, f"{SAID} to dan", conversation_id=CONVERSATION, to="dan")
        said = messages.send(session, f"{SAID} to all", conversation_id=CONVERSATION)
        messages.send(session, f"{SAID} to developers", conversation_id=CONVERSATION, to="role:developer")
        request = messages.send(session, f"{SAID} asked", conversation_id=CONVERSATION, to="dan", message_type="request")
        open_ = tasks.delegate(session, f"{SAID} by an agent", conversation_id=CONVERSATION, slug=SLUG)
        gate = tasks.delegate(session, f"{SAID} later", conversation_id=CONVERSATION, slug="eee-kept", requires_approval=True)
        done = tasks.delegate(session, f"{SAID} on a node", conversation_id=CONVERSATION, executor="node")
        [execution] = executions.of_task(session, done.id)
        asked = inference.request(session, SAID)
        run = request_index(session, "/srv/kept", visibility="members", conversation_id=CONVERSATION)
        indexing.record_scan(session, run, "/srv/kept", paths=[], documents=[], skipped=[], visibility="members", conversation_id=CONVERSATION)
        task_claims.claim(session, SLUG, description=SAID, ttl_s=3600)
        cop.update_state(session, f"{SAID} of mine", visibility="members")
        asked_for = Asked(question=f"{SAID}?", conversation_id=CONVERSATION, voters=["bob", "dan"], timeout_s=3600)
        vote = consensus.request(session, asked_for, slug="ooo-kept")
        consensus.acknowledge(session, "ooo-kept", vote.options_hash)
        votes.respond(session, "ooo-kept", ["yes"], reason=SAID)
        stored = house.door.contents.put(BytesIO(SAID.encode()), len(SAID))
        artifacts.record(session, Offered(conversation_id=CONVERSATION, name=SLUG, task=SLUG), stored)
        begun = sessions.join(session, "sss-kept", Start(context={"task": SAID}), conversation_id=CONVERSATION)
        guess = findings.post(session, "sss-kept", Said(content=SAID, category="hypothesis", confidence=0.5)).finding
        action = session_actions.propose(session, "sss-kept", Proposed(content=SAID, type="query", requires_approval=False), slug="aaa-kept")
        memory = memories.remember(session, f"{SAID} to remember", conversation_id=CONVERSATION)
    ids = (open_.id, gate.slug or "", done.id, execution, asked, run, "/srv/kept", said.message_id, request.message_id, vote.id, vote.slug)
    ids += (begun.id, begun.slug, action.id, action.slug, guess.id, memory.memory_id)
    return Kept(CONVERSATION, SLUG, *map(str, ids))


def by_task(kept: Kept, *references: str, **more: Any) -> list[dict[str, Any]]:
    named = [{"task_id": reference, **more} for reference in (kept.slug, kept.task, *references)]
    return [*named, {"task_id": kept.slug, "conversation_id": kept.conversation, **more}]


def by_vote(kept: Kept, **more: Any) -> list[dict[str, Any]]:
    named = [{"consensus_id": reference, **more} for reference in (kept.named_vote, kept.vote)]
    return [*named, {"consensus_id": kept.named_vote, "conversation_id": kept.conversation, **more}]


def by_session(kept: Kept, **more: Any) -> list[dict[str, Any]]:
    named = [{"session_id": reference, **more} for reference in (kept.named_session, kept.session)]
    return [*named, {"session_id": kept.named_session, "conversation_id": kept.conversation, **more}]


def calls(kept: Kept) -> dict[str, list[dict[str, Any]]]:
    """Return for each tool calls that name what is kept; a tool without an argument that could name it is called as it is."""
    everything = (kept.node_task, kept.execution, kept.asked, kept.run)
    return {
        "federation_send": [
            {"content": "x", "reply_to": kept.message},
            {"content": "x", "reply_to": kept.request},
            {"content": "x", "reply_to": kept.request, "message_type": "response"},
        ],
        "federation_ask": [],
        "federation_ask_result": [{"request_id": kept.request, "wait_s": 0}, {"request_id": kept.message, "wait_s": 0}],
        "federation_history": [
            {"conversation_id": kept.conversation},
            {"conversation_id": kept.conversation, "after": 0},
            {"conversation_id": kept.conversation, "before": 9},
            {"conversation_id": kept.conversation, "thread": kept.request},
        ],
        "federation_inbox": [{}],
        "federation_update_state": [{"summary": "x"}],
        "federation_pulse": [{}, {"form": "table"}, {"at": "2030-01-31T14:05:00+01:00"}],
        # Whom it is for, and where, may be chosen freely; a name that is taken: below.
        "federation_delegate": [
            {"description": "x", "requires_approval": True, "parent": parent, **more}
            for parent, more in ((kept.slug, {}), (kept.task, {}), (kept.slug, {"conversation_id": kept.conversation}))
        ],
        "federation_assign_role": [],
        "federation_phase": [{"conversation_id": kept.conversation}, {"conversation_id": kept.conversation, "phase": "propose"}],
        "federation_approve": by_task(kept, kept.gate, decision="reject", reason="x"),
        # So too for a vote, unless it is on a task.
        "federation_consensus_request": [*by_task(kept, kept.gate, question="x"), *by_vote(kept, question="x", replace=True)],
        "federation_consensus_acknowledge": by_vote(kept, options_hash="0" * 64),
        "federation_consensus_respond": by_vote(kept, response="yes"),
        "federation_consensus_results": by_vote(kept, ballots=True),
        "federation_claim_task": by_task(kept),
        "federation_release_task": by_task(kept),
        "federation_complete_task": by_task(kept, fencing_token=1, result={}),
        # What is claimed beside tasks is everybody's to see.
        "federation_claim": [{"resource": "file:src/main.py"}],
        "federation_release": [{"resource": "file:src/main.py"}],
        "federation_claims": [{}, {"resource": "file:**"}],
        "federation_cancel_task": by_task(kept, *everything),
        "federation_task_status": by_task(kept, *everything),
        "federation_task_result": by_task(kept, *everything),
        "federation_index": [{"run_id": kept.run, "wait_s": 0}, {"path": "/srv/code", "wait_s": 0}],
        "federation_search": [{"query": SAID}, {"query": SAID, "root": kept.folder}],
        "federation_remember": [{"content": "x", "conversation_id": kept.conversation}, {"content": "x", "message_id": kept.message}],
        "federation_recall": [
            {},
            {"query": SAID},
            {"kind": "episodic", "about": [CONVERSATION]},
            {"kind": "relational"},
            {"kind": "graph", "about": [CONVERSATION]},
        ],
        "federation_forget": [{"memory_id": kept.memory}],
        "federation_infer": [{"prompt": "x", "wait_s": 0}, {"prompt": "x", "cache": True, "conversation_id": kept.conversation, "wait_s": 0}],
        "federation_summarize": [{"conversation_id": kept.conversation, "wait_s": 0}],
        "federation_artifact_put": [
            {"conversation_id": kept.conversation, "name": kept.slug, "content": "x", **more} for more in ({}, {"task_id": kept.slug})
        ],
        "federation_artifact_get": [{"conversation_id": kept.conversation}, {"conversation_id": kept.conversation, "name": kept.slug}],
        # What begins one, below.
        "swarm_join_session": by_session(kept),
        "swarm_post_finding": [
            *by_session(kept, content="x", category="observation"),
            *by_session(kept, content="x", category="observation", hypothesis_id=kept.hypothesis),
        ],
        "swarm_get_findings": [*by_session(kept), *by_session(kept, hypothesis_id=kept.hypothesis)],
        "swarm_propose_action": by_session(kept, content="x", type="query"),
        "swarm_vote": by_session(kept, action_id=kept.named_action, vote="yes", options_hash="0" * 64),
        "swarm_claim_task": [*by_session(kept), *by_session(kept, action_id=kept.action)],
        "swarm_complete_task": by_session(kept, action_id=kept.named_action, fencing_token=1, result={}),
    }


def told(answer: CallToolResult) -> str:
    """Return all that an agent reads; an id that is a few letters nearer to one that it sees is told so, whatever it is the id of."""
    told = json.dumps([answer.is_error, answer.structured_content, [part.text for part in answer.content]])
    return told.replace("; nearest: ", "; there is ")


async def test_each_tool_has_been_thought_of(house: Any, kept: Kept) -> None:
    async with house.client("eve") as eve:
        assert {tool.name for tool in await eve.list_tools()} == calls(kept).keys()


@pytest.mark.parametrize("name", STRANGERS)
async def test_what_a_stranger_names_is_answered_as_if_it_had_never_been(house: Any, kept: Kept, name: str) -> None:
    never = kept.never()
    async with house.client(name) as stranger:
        for tool, named in calls(kept).items():
            for arguments in named:
                answer = told(await stranger.call_tool(tool, arguments, raise_on_error=False))
                twin = {key: never.get(value, value) if isinstance(value, str) else value for key, value in arguments.items()}
                if twin == arguments:
                    assert not [each for each in (*vars(kept).values(), f"{SAID} ") if each in answer], tool
                    continue
                expected = told(await stranger.call_tool(tool, twin, raise_on_error=False))
                for real, other in never.items():
                    answer = answer.replace(real, other)
                assert answer == expected, (tool, arguments)
                assert expected.startswith("[true"), (tool, arguments)
                assert SAID not in answer


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize(
    "tool", ["federation_send", "federation_delegate", "federation_assign_role", "federation_consensus_request", "swarm_join_session"]
)
async def test_only_a_name_that_is_taken_cannot_be_chosen(house: Any, kept: Kept, tool: str, name: str) -> None:
    what = {
        "federation_send": {"content": "x"},
        "federation_delegate": {"description": "x", "requires_approval": True},
        "federation_assign_role": {"agent": "bob", "role": "developer", "subtask": "x"},
        "federation_consensus_request": {"question": "x"},
        "swarm_join_session": {"session_id": "another", "context": {}},
    }[tool]
    async with house.client(name) as stranger:
        answer = told(await stranger.call_tool(tool, {**what, "conversation_id": kept.conversation}, raise_on_error=False))
    assert answer.startswith("[true")
    assert "choose another conversation_id" in answer or "may not " in answer
    assert SAID not in answer


async def test_a_member_is_told_of_what_is_there(house: Any, kept: Kept) -> None:
    never = kept.never()
    async with house.client(MEMBER) as member:
        for tool in (
            "federation_task_status",
            "federation_task_result",
            "federation_approve",
            "federation_claim_task",
            "federation_summarize",
            "federation_history",
            "federation_phase",
            "federation_search",
            "federation_artifact_get",
            "federation_forget",
            "swarm_get_findings",
        ):
            for arguments in calls(kept)[tool]:
                if arguments.get("task_id") in {kept.asked, kept.run}:
                    continue  # what bob asked a model is his own, and so is his run of the indexer
                answer = told(await member.call_tool(tool, arguments, raise_on_error=False))
                twin = {key: never.get(value, value) if isinstance(value, str) else value for key, value in arguments.items()}
                assert "no task" not in answer or arguments.get("task_id") == kept.execution, (tool, arguments, answer)
                assert answer != told(await member.call_tool(tool, twin, raise_on_error=False))
        inbox = told(await member.call_tool("federation_inbox", {}))
        assert f"{SAID} to all" in inbox
        assert f"{SAID} to dan" in inbox


async def test_a_lead_and_an_observer_who_are_members_see_what_members_see_and_do_what_their_roles_may(house: Any) -> None:
    """Agents, conversation and words of their own, because other tests count who sees what of the others."""
    where, word, named = "lll-shared", "halibut", {"task_id": "lll-task"}
    with house.transactions.begin("test:setup") as session:
        for name, role in {"hal": "developer", "lia": "lead", "oto": "observer"}.items():
            house.tokens[name] = agents.add(session, name, role)
    with house.transactions.begin("hal") as session:
        for name in ("lia", "oto"):
            messages.send(session, f"{word} to {name}", conversation_id=where, to=name)
        messages.send(session, f"{word} to all", conversation_id=where)
        tasks.delegate(session, f"{word} of ours", conversation_id=where, slug="lll-task")
        vote = consensus.request(session, Asked(question=f"{word}?", conversation_id=where, voters=["hal", "lia"], timeout_s=3600), slug="lll-vote")
        sessions.join(session, "lll-session", Start(context={"task": word}), conversation_id=where)
        findings.post(session, "lll-session", Said(content=f"{word} found", category="observation", confidence=0.5))
    by_vote = {"consensus_id": "lll-vote"}
    for name in ("lia", "oto"):
        async with house.client(name) as member:
            for tool, arguments, part in (
                ("federation_history", {"conversation_id": where}, f"{word} to all"),
                ("federation_inbox", {}, f"{word} to {name}"),
                ("federation_task_status", named, f"{word} of ours"),
                ("federation_consensus_results", by_vote, f"{word}?"),
                ("swarm_get_findings", {"session_id": "lll-session"}, f"{word} found"),
            ):
                answer = told(await member.call_tool(tool, arguments))
                assert part in answer, (name, tool)
                assert f"{word} to {'oto' if name == 'lia' else 'lia'}" not in answer, (name, tool)
    async with house.client("oto") as oto, house.client("lia") as lia:
        for tool, arguments, says in (
            ("federation_claim_task", named, " may: "),
            ("federation_cancel_task", named, " may: "),
            ("federation_delegate", {"description": "x", "conversation_id": where}, " may: "),
            ("federation_consensus_respond", {**by_vote, "response": "yes"}, "oto is not among the voters"),
        ):
            refused = told(await oto.call_tool(tool, arguments, raise_on_error=False))
            assert says in refused, (tool, refused)
        await lia.call_tool("federation_consensus_acknowledge", {**by_vote, "options_hash": vote.options_hash})
        await lia.call_tool("federation_consensus_respond", {**by_vote, "response": "yes"})
        assert (await oto.call_tool("federation_consensus_results", by_vote)).structured_content["voted"] == ["lia"]
        assert (await lia.call_tool("federation_cancel_task", named)).structured_content["state"] == "cancelled"


async def test_of_a_vote_a_member_sees_who_voted_and_not_what(house: Any, kept: Kept) -> None:
    async with house.client(MEMBER) as member, house.client("bob") as bob:
        for arguments in by_vote(kept, ballots=True):
            seen = (await member.call_tool("federation_consensus_results", arguments)).structured_content
            assert (seen["voted"], seen["votes"], seen["ballots"]) == (["bob"], None, [])
            own = (await bob.call_tool("federation_consensus_results", arguments)).structured_content
            assert [one["response"] for one in own["ballots"]] == [["yes"]]
        refused = told(await member.call_tool("federation_consensus_respond", by_vote(kept, response="no")[0], raise_on_error=False))
        assert "you have not acknowledged" in refused


async def test_who_sees_what_an_agent_says_of_itself(house: Any, kept: Kept) -> None:
    """ada is a lead, eve an analyst; bob and dan are developers and share a conversation; zoe observes."""

    async def seen_by(level: str) -> set[str]:
        async with house.client("bob") as bob:
            await bob.call_tool("federation_update_state", {"summary": f"seen by {level}", "visibility": level})
        found = set()
        for name in ("ada", "bob", "dan", "eve", "zoe"):
            async with house.client(name) as one:
                [row] = [row for row in (await one.call_tool("federation_pulse")).structured_content["rows"] if row["name"] == "bob"]
            assert row["summary"] in {"", f"seen by {level}"}
            if row["summary"]:
                found.add(name)
        return found

    with house.transactions.begin("test:setup") as session:
        house.tokens["roy"] = agents.add(session, "roy", "developer")
    assert await seen_by("all") == {"ada", "bob", "dan", "eve", "zoe"}
    assert await seen_by("members") == {"bob", "dan"}
    assert await seen_by("role") == {"bob", "dan"}
    assert await seen_by("nobody") == {"bob"}
    async with house.client("roy") as roy:
        [row] = [row for row in (await roy.call_tool("federation_pulse")).structured_content["rows"] if row["name"] == "bob"]
    assert row["summary"] == ""


async def test_nobody_makes_himself_one_of_those_to_whom_an_agent_shows_its_state(house: Any, kept: Kept) -> None:
    with house.transactions.begin("test:setup") as session:
        house.tokens["ned"] = agents.add(session, "ned", "developer")
    async with house.client("ned") as ned, house.client("eve") as eve, house.client("zoe") as zoe:

        async def seen() -> list[str]:
            pulses = [(await one.call_tool("federation_pulse")).structured_content["rows"] for one in (eve, zoe)]
            return [row["summary"] for rows in pulses for row in rows if row["name"] == "ned"]

        await ned.call_tool("federation_update_state", {"summary": "for members", "visibility": "members"})
        lured = {"content": "hello", "to": "ned"}
        await eve.call_tool("federation_send", lured)
        # With the help of another, and to a place where others are.
        await eve.call_tool("federation_send", {"content": "come", "to": "zoe", "conversation_id": "rrr-lure"})
        await zoe.call_tool("federation_send", {**lured, "conversation_id": "rrr-lure"})
        await eve.call_tool("federation_send", {"content": "to all", "conversation_id": "rrr-lure"})
        assert await seen() == ["", ""]
        await ned.call_tool("federation_send", {"content": "to zoe alone", "to": "zoe", "conversation_id": "rrr-lure"})
        assert await seen() == ["", "for members"]
        await ned.call_tool("federation_send", {"content": "yes?", "to": "eve"})
        assert await seen() == ["for members", "for members"]


async def test_nothing_of_what_was_kept_has_changed(house: Any, kept: Kept) -> None:
    with house.transactions.begin("bob") as session:
        assert tasks.find(session, kept.task).assigned_to == "bob"
        assert tasks.find(session, kept.gate).status == "awaiting_approval"
        assert tasks.find(session, kept.node_task).status == "pending"
        vote = consensus.find(session, kept.vote)
        assert (vote.state, vote.revision, consensus.voted(session, vote)) == ("open", 1, ["bob"])
