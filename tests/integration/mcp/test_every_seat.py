"""Each tool from each seat (a stranger; a member, a lead, an observer who are members): what is not for it is not there, what it may not is refused.

One table, with a line for each tool at least; what strangers may learn by asking for what they do not see is in `test_seats.py`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import select

from federation.mcp.catalogue import TOOLS
from federation.mcp.tools import memories as memory_tools
from federation.mcp.tools import retrieval
from federation.services import (
    agents,
    artifacts,
    consensus,
    cop,
    findings,
    indexing,
    inference,
    memories,
    messages,
    resource_claims,
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
from federation.store.models.consensus import Consensus

pytestmark = pytest.mark.anyio

# Who sits where; hal, who keeps what all of it is about, and gil, a lead, are in each room, and so is pat, for whom alone some of it is.
SEATS = {"stranger": ("sue", "developer"), "member": ("dov", "developer"), "lead": ("lia", "lead"), "observer": ("oto", "observer")}
OTHERS = {"hal": "developer", "pat": "developer", "gil": "lead"}
WORD, SECRET = "halibut", "swordfish"
# What an answer says: a refusal by the charter, which names who may; and what is said of what is not there, or not for one who is no member.
MAY_NOT = "- may not .* may: "
NOT_THERE = "-^(no |Need to know: )|not among|does not hold|has not joined"


@dataclass(frozen=True)
class Room:
    """What there is in the conversation that a seat looks at, by names that the table uses."""

    seat: str
    who: str
    names: dict[str, Any]

    def filled(self, value: Any) -> Any:
        """Return arguments of the table, where `<task>` is this room's."""
        if isinstance(value, dict):
            return {key: self.filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.filled(each) for each in value]
        if not isinstance(value, str):
            return value
        if value.startswith("<") and value.endswith(">"):
            return self.names[value[1:-1]]
        return re.sub("<([a-z_]+)>", lambda found: str(self.names[found[1]]), value)


ROOM = {"conversation_id": "<room>"}
INVESTIGATION = {"session_id": "<room>-session"}
VOTE = {"consensus_id": "<room>-vote"}
# Each call, and what it answers from the seat of a stranger, a member, a lead and an observer, in this order: + and what it tells, - and why not.
TABLE: tuple[tuple[str, dict[str, Any], str, str, str, str], ...] = (
    ("federation_history", ROOM, NOT_THERE, f"+{WORD} to all", f"+{WORD} to all", f"+{WORD} to all"),
    ("federation_inbox", {}, "+", f"+{WORD} to you", f"+{WORD} to you", f"+{WORD} to you"),
    ("federation_send", {"content": "x", **ROOM}, "-choose another conversation_id", "+", "+", "+"),
    ("federation_send", {"content": "x", "reply_to": "<asked_of_pat>"}, *[NOT_THERE] * 4),
    ("federation_send", {"content": "x", "reply_to": "<asked_of_you>"}, NOT_THERE, "+", "+", "+"),
    ("federation_ask", {"content": "x", "to": "hal", "wait_s": 0, **ROOM}, "-choose another conversation_id", "+", "+", "+"),
    ("federation_ask_result", {"request_id": "<asked_of_pat>", "wait_s": 0}, *[NOT_THERE] * 4),
    ("federation_update_state", {"summary": "x", "visibility": "nobody"}, "+", "+", "+", "+"),
    ("federation_pulse", {}, "+", f"+{WORD} of hal", f"+{WORD} of hal", f"+{WORD} of hal"),
    ("federation_delegate", {"description": "x", "agent": "hal", **ROOM}, MAY_NOT, MAY_NOT, "+", MAY_NOT),
    ("federation_delegate", {"description": "x", **ROOM}, "-choose another conversation_id", "+", "+", MAY_NOT),
    ("federation_delegate", {"description": "x", "parent": "<task>"}, NOT_THERE, "+", "+", MAY_NOT),
    ("federation_assign_role", {"agent": "hal", "role": "developer", "subtask": "x", **ROOM}, MAY_NOT, MAY_NOT, "+", MAY_NOT),
    ("federation_phase", ROOM, NOT_THERE, "+", "+", "+"),
    ("federation_approve", {"task_id": "<gate>", "decision": "approve"}, NOT_THERE, MAY_NOT, "+", MAY_NOT),
    ("federation_consensus_request", {"question": "x", "voters": ["hal", "pat"], **ROOM}, NOT_THERE, "+", "+", MAY_NOT),
    ("federation_consensus_results", {**VOTE, "ballots": True}, NOT_THERE, rf"+{WORD}\?", rf"+{WORD}\?", rf"+{WORD}\?"),
    ("federation_consensus_acknowledge", {**VOTE, "options_hash": "<options>"}, NOT_THERE, "+", "+", NOT_THERE),
    ("federation_consensus_respond", {**VOTE, "response": "no"}, NOT_THERE, "+", "+", NOT_THERE),
    ("federation_consensus_results", {**VOTE, "ballots": True}, NOT_THERE, "+", "+", "+"),
    ("federation_claim_task", {"task_id": "<task>"}, NOT_THERE, "+", "+", MAY_NOT),
    ("federation_release_task", {"task_id": "<yours>"}, NOT_THERE, '+"released": true', '+"released": true', '+"released": false'),
    ("federation_complete_task", {"task_id": "<held>", "fencing_token": 1, "result": {}}, NOT_THERE, *["-hal holds"] * 3),
    ("federation_complete_task", {"task_id": "<also_yours>", "fencing_token": 1, "result": {}}, NOT_THERE, "+", "+", "-nobody holds"),
    ("federation_claim", {"resource": "file:<room>/mine"}, "+", "+", "+", MAY_NOT),
    ("federation_release", {"resource": "file:<room>/hals"}, *['+"released": false'] * 4),
    # What is claimed beside tasks is everybody's to see, and its token the holder's.
    ("federation_claims", {"resource": "file:<room>/**"}, *['+"holder": "hal".*"fencing_token": null'] * 4),
    ("federation_task_status", {"task_id": "<held>"}, NOT_THERE, f"+{WORD} in hand", f"+{WORD} in hand", f"+{WORD} in hand"),
    ("federation_task_status", {"task_id": "<inference>"}, *[NOT_THERE] * 4),
    ("federation_task_result", {"task_id": "<on_a_node>", "wait_s": 0}, NOT_THERE, "+", "+", "+"),
    ("federation_task_result", {"task_id": "<inference>", "wait_s": 0}, *[NOT_THERE] * 4),
    ("federation_cancel_task", {"task_id": "<inference>"}, *[NOT_THERE] * 4),
    ("federation_cancel_task", {"task_id": "<on_a_node>"}, NOT_THERE, MAY_NOT, "+", MAY_NOT),
    ("federation_index", {"run_id": "<indexing>", "wait_s": 0}, *[NOT_THERE] * 4),
    ("federation_index", {"path": "/srv/code", "wait_s": 0}, "+", "+", "+", MAY_NOT),
    # Of the folder that is indexed for members.
    ("federation_index", {"path": "/srv/<room>", "wait_s": 0, **ROOM}, NOT_THERE, "+", "+", MAY_NOT),
    ("federation_search", {"query": "x", "root": "/srv/<room>"}, NOT_THERE, "+", "+", "+"),
    ("federation_search", {"query": "x"}, "+", "+", "+", "+"),
    ("federation_remember", {"content": "x", "about": ["none"], **ROOM}, NOT_THERE, "+", "+", "+"),
    ("federation_remember", {"content": "x", "message_id": "<asked_of_pat>"}, *[NOT_THERE] * 4),
    ("federation_remember", {"content": "x", "answer": "<inference>"}, *[NOT_THERE] * 4),
    ("federation_recall", {"about": ["<room>"]}, r'+"memories": \[\]', *[f"+{WORD} to remember"] * 3),
    ("federation_recall", {"about": ["<room>"], "query": f"{WORD} {SECRET}"}, r'+"memories": \[\]', *[f"+{WORD} to remember"] * 3),
    ("federation_recall", {"kind": "episodic", "about": ["<room>"], "limit": 50}, r'+"episodes": \[\]', *[f"+{WORD} to all"] * 3),
    ("federation_recall", {"kind": "episodic", "about": ["file:<room>/**"]}, *[r"+claimed file:room-\w+/hals"] * 4),
    ("federation_recall", {"kind": "relational", "about": ["hal"], "limit": 50}, "+", *['+"agent": "hal".*"by": "messages", "on": "room-'] * 3),
    ("federation_recall", {"kind": "graph", "about": ["hal"]}, *[r'+"paths": \[\]'] * 4),
    ("federation_recall", {"kind": "profile", "about": ["hal"]}, *['+"agent": "hal".*"of": "overall"'] * 4),
    ("federation_forget", {"memory_id": "<remembered>"}, NOT_THERE, *["-this memory is hal's"] * 3),
    ("federation_forget", {"memory_id": "<of_hal_alone>"}, *[NOT_THERE] * 4),
    ("federation_forget", {"memory_id": "<of_your_own>"}, "+", "+", "+", "+"),
    ("federation_infer", {"prompt": "x", "wait_s": 0}, "+", "+", "+", "+"),
    ("federation_infer", {"prompt": "x", "wait_s": 0, "cache": True, **ROOM}, NOT_THERE, "+", "+", "+"),
    ("federation_summarize", {"wait_s": 0, **ROOM}, NOT_THERE, "+", "+", "+"),
    ("federation_artifact_get", ROOM, NOT_THERE, *[f'+"design": .*"{WORD}.md"'] * 3),
    ("federation_artifact_get", {"name": f"{WORD}.md", **ROOM}, NOT_THERE, *[f"+{WORD} drawn"] * 3),
    ("federation_artifact_put", {"name": "x", "content": "x", **ROOM}, NOT_THERE, "+", "+", "+"),
    ("federation_artifact_put", {"name": "x", "content": "x", "task_id": "<held>", **ROOM}, NOT_THERE, "+", "+", "+"),
    ("swarm_get_findings", INVESTIGATION, NOT_THERE, f"+{WORD} found", f"+{WORD} found", f"+{WORD} found"),
    ("swarm_post_finding", {**INVESTIGATION, "content": "x", "category": "observation"}, *[NOT_THERE] * 4),
    ("swarm_join_session", INVESTIGATION, NOT_THERE, "+", "+", "+"),
    ("swarm_post_finding", {**INVESTIGATION, "content": "x", "category": "observation"}, NOT_THERE, "+", "+", "+"),
    ("swarm_propose_action", {**INVESTIGATION, "content": "x", "type": "query"}, NOT_THERE, "+", "+", MAY_NOT),
    (
        "swarm_vote",
        {**INVESTIGATION, "action_id": "<voted>", "vote": "no", "options_hash": "<action_options>"},
        *(NOT_THERE, "+", "+", NOT_THERE),
    ),
    ("swarm_claim_task", {**INVESTIGATION, "action_id": "<free>"}, NOT_THERE, "+", "+", MAY_NOT),
    ("swarm_complete_task", {**INVESTIGATION, "action_id": "<free>", "fencing_token": 1, "result": {}}, NOT_THERE, "+", "+", "-nobody holds"),
    # Last, because rights rest in a phase.
    ("federation_phase", {"phase": "propose", **ROOM}, NOT_THERE, MAY_NOT, "+", MAY_NOT),
)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody works here, so there is nothing to wait for."""
    monkeypatch.setattr(retrieval, "FOUND_WITHIN_S", 0.0)
    monkeypatch.setattr(memory_tools, "RANKED_WITHIN_S", 0.0)


@pytest.fixture(scope="module")
def house(lasting_house: Any) -> Iterator[Any]:
    with lasting_house.transactions.begin("test:setup") as session:
        for name, role in {**OTHERS, **dict(SEATS.values())}.items():
            lasting_house.tokens[name] = agents.add(session, name, role)
    return lasting_house


def furnished(house: Any, seat: str) -> Room:
    """Return a room with all that the table asks for, in which this seat is, unless it is the stranger's."""
    who, _ = SEATS[seat]
    room = f"room-{seat}"
    here = {"conversation_id": room}
    voters = ["hal", "pat", *([who] if seat in {"member", "lead"} else [])]
    begin = house.transactions.begin
    with begin("hal") as session:
        messages.send(session, f"{SECRET} to pat", to="pat", **here)
        messages.send(session, f"{WORD} to gil", to="gil", **here)
        asked_of_pat = messages.send(session, f"{SECRET} asked", to="pat", message_type="request", **here).message_id
        # Strangers are asked nothing, so they are told of the one that is pat's.
        asked_of_you = asked_of_pat
        if seat != "stranger":
            messages.send(session, f"{WORD} to you", to=who, **here)
            asked_of_you = messages.send(session, f"{WORD} asked", to=who, message_type="request", **here).message_id
        messages.send(session, f"{WORD} to all", **here)
        cop.update_state(session, f"{WORD} of hal", visibility="members")
        task = tasks.delegate(session, f"{WORD} for anybody", slug=f"{room}-task", **here)
        gate = tasks.delegate(session, f"{WORD} to be let through", slug=f"{room}-gate", requires_approval=True, **here)
        held = tasks.delegate(session, f"{WORD} in hand", slug=f"{room}-held", **here)
        task_claims.claim(session, f"{room}-held", description=f"{WORD} at work", ttl_s=3600)
        yours = [tasks.delegate(session, f"{WORD} in your hands", **here).id for _ in range(2)]
        on_a_node = tasks.delegate(session, f"{WORD} on a node", executor="node", **here)
        inferred, indexed = inference.request(session, SECRET), request_index(session, f"/srv/{room}", **here)
        indexing.record_scan(session, indexed, f"/srv/{room}", paths=[], documents=[], skipped=[], **here)
        remembered = memories.remember(session, f"{WORD} to remember", about=[room], **here)
        of_hal_alone = memories.remember(session, f"{SECRET} to remember", about=[room])
        resource_claims.take(session, f"file:{room}/hals", ttl_s=3600)
        drawn = f"{WORD} drawn".encode()
        stored = house.door.contents.put(BytesIO(drawn), len(drawn))
        artifacts.record(session, Offered(conversation_id=room, name=f"{WORD}.md", kind="design"), stored)
        vote = consensus.request(session, Asked(question=f"{WORD}?", voters=voters, timeout_s=3600, **here), slug=f"{room}-vote")
        consensus.acknowledge(session, f"{room}-vote", vote.options_hash)
        votes.respond(session, f"{room}-vote", ["yes"], reason=f"{SECRET} till the end")
    if seat in {"member", "lead"}:
        with begin(who) as session:
            for one in yours:
                task_claims.claim(session, str(one), description=WORD, ttl_s=3600)
    with begin(who) as session:
        of_your_own = memories.remember(session, "of my own")
    with begin("gil") as session:
        sessions.join(session, f"{room}-session", Start(context={"task": WORD}, voters=voters), **here)
    with begin("hal") as session:
        sessions.join(session, f"{room}-session", Start())
        findings.post(session, f"{room}-session", Said(content=f"{WORD} found", category="observation", confidence=0.5))
        voted = session_actions.propose(session, f"{room}-session", Proposed(content=f"{WORD} changed", type="modify"))
        free = session_actions.propose(session, f"{room}-session", Proposed(content=f"{WORD} looked up", type="query", requires_approval=False))
        put = session.scalars(select(Consensus).where(Consensus.task_id == voted.id)).one()
        action_options = put.options_hash
    given = {"task": task.id, "gate": gate.id, "held": held.id, "on_a_node": on_a_node.id, "inference": inferred, "indexing": indexed}
    given |= {"asked_of_pat": asked_of_pat, "asked_of_you": asked_of_you, "voted": voted.id, "free": free.id}
    kept = {"remembered": remembered, "of_hal_alone": of_hal_alone, "of_your_own": of_your_own}
    given |= {name: one.memory_id for name, one in kept.items()}
    given |= dict(zip(("yours", "also_yours"), yours, strict=True))
    names = {"room": room, "options": vote.options_hash, "action_options": action_options, **{name: str(one) for name, one in given.items()}}
    return Room(seat, who, names)


def test_each_tool_stands_in_the_table() -> None:
    assert {tool.__name__ for tool, _, _ in TOOLS} == {line[0] for line in TABLE}


@pytest.mark.parametrize("seat", SEATS)
async def test_each_tool_shows_and_does_from_each_seat_what_is_for_it(house: Any, seat: str) -> None:
    room = furnished(house, seat)
    async with house.client(room.who) as client:
        for tool, arguments, *by_seat in TABLE:
            expected = by_seat[list(SEATS).index(seat)]
            answer = await client.call_tool(tool, room.filled(arguments), raise_on_error=False)
            told = answer.content[0].text if answer.is_error else json.dumps(answer.structured_content)
            where = f"{tool}({arguments}) from the seat of {'an' if seat == 'observer' else 'a'} {seat}: {told}"
            assert answer.is_error is expected.startswith("-"), where
            assert re.search(expected[1:], told, re.DOTALL), where
            # What is for others only is in no answer, whatever it is about, and of a room that one is not in nothing is.
            assert SECRET not in told, where
            assert seat != "stranger" or WORD not in told, where
