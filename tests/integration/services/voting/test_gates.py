"""Votes on tasks that await approval: who may ask for one, that nobody decides beside it, and that its outcome is done."""

from collections.abc import Sequence

import pytest

from federation.errors import Conflict, InvalidInput, Refused
from federation.services import (
    approvals,
    decisions,
    executions,
    limits,
    task_ends,
    tasks,
)
from federation.services.approvals import Decision
from federation.settings import Settings
from federation.store.models.consensus import Consensus
from tests.integration.services.voting.conftest import ALL, BEAT, Team


@pytest.mark.parametrize(
    ("responses", "state", "status"),
    [
        (("approve", "approve", "approve", ""), "decided", "pending"),
        # Two of four are no n/2 + 1.
        (("approve", "approve", "reject", "reject"), "undecided", "cancelled"),
        (("approve", "approve", "abstain", "abstain"), "undecided", "cancelled"),
        (("reject", "reject", "reject", ""), "decided", "cancelled"),
        (("approve", "approve", "", ""), "undecided", "cancelled"),
    ],
)
def test_a_gate_opens_or_closes_by_the_outcome_itself(team: Team, responses: Sequence[str], state: str, status: str) -> None:
    gate = team.gate()
    vote = team.ask(options=None, mechanism="majority", voters=list(ALL), task=gate, slug="go")
    assert (vote.proposal["base"], vote.proposal["options"]) == ("electorate", ["approve", "reject"])
    assert vote.proposal["task"]["description"] == "Restart the cache"
    for name, response in zip(ALL, responses, strict=True):
        if response:
            try:
                team.vote(name, vote, response)
            except Conflict:
                assert team.settle(vote).state != "open"  # what nothing could change had ended it
    if team.settle(vote).state == "open":
        assert team.status(gate) == "awaiting_approval"
        team.end_of_time(vote)
    ended = team.settle(vote, BEAT)
    assert (ended.state, team.status(gate), ended.applied_at is None) == (state, status, False)
    [(by, reason)] = team.rows("SELECT decided_by, decision_reason FROM agent_tasks WHERE slug = 'gate'")
    assert by == f"consensus:{vote.id}"
    assert reason.startswith("by the vote go: ")
    assert team.told(vote, "consensus.applied") == ["consensus.applied"]
    assert len(team.rows("SELECT FROM events WHERE type IN ('task.approved', 'task.rejected')")) == 1


def test_a_vote_lets_a_nodes_work_begin(team: Team) -> None:
    gate = team.gate(executor="node")
    vote = team.ask(options=None, mechanism="unanimous", task=gate, voters=["ada", "dan"])
    for name in ("ada", "dan"):
        team.vote(name, vote, "approve")
    [(task_id,)] = team.rows("SELECT id FROM agent_tasks")
    with team.transactions.begin("bob") as session:
        assert len(executions.of_task(session, task_id)) == 1


def test_what_is_put_to_the_vote_is_for_nobody_alone_to_decide(team: Team) -> None:
    gate = team.gate()
    vote = team.ask(options=None, mechanism="majority", task=gate)
    for who in ("ada", "cli:root"):
        with team.transactions.begin(who) as session, pytest.raises(Refused, match="put to the vote auth-decision, which decides"):
            approvals.settle(session, tasks.find(session, gate), Decision.APPROVE, reason="")
    with pytest.raises(Conflict, match="is put to the vote auth-decision already"):
        team.ask(options=None, mechanism="majority", task=gate, slug="another")
    with team.transactions.begin("ada") as session:
        assert approvals.waits_for(session, tasks.find(session, gate)) == "the vote auth-decision"
    with team.transactions.begin("cli:root") as session:
        decisions.withdraw(session, session.get_one(Consensus, vote.id), reason="asked the wrong people")
    assert team.results("bob", vote).state == "withdrawn"
    assert team.status(gate) == "awaiting_approval"
    with team.transactions.begin("ada") as session:
        assert approvals.decide(session, gate, Decision.APPROVE).status == "pending"


def test_only_who_may_decide_puts_it_to_the_vote(team: Team) -> None:
    gate = team.gate()
    for who in ("bob", "eve"):
        with pytest.raises(Refused, match="may not decide on tasks that await approval"):
            team.ask(who=who, options=None, mechanism="majority", task=gate)
    own = team.gate("own", who="ada")
    with pytest.raises(Refused, match="may not decide on a task that one asked for oneself"):
        team.ask(options=None, mechanism="majority", task=own)
    for asked, says in (
        ({"mechanism": "poll"}, "mechanism"),
        ({"options": ["approve", "postpone"]}, "options"),
        ({"base": "cast"}, "base"),
    ):
        with pytest.raises(InvalidInput, match=says):
            team.ask(**{"options": None, "mechanism": "majority", "task": gate} | asked)
    with team.transactions.begin("ada") as session:
        approvals.decide(session, gate, Decision.APPROVE)
    with pytest.raises(Conflict, match="awaits no approval"):
        team.ask(options=None, mechanism="majority", task=gate)


@pytest.mark.parametrize("who", ["bob", "eve"])
def test_a_vote_that_was_put_beside_the_program_by_who_may_not_decide_opens_no_gate(team: Team, who: str) -> None:
    gate = team.gate()
    # As plain SQL would, which no charter holds back.
    vote = team.ask(who=who, options=None, mechanism="majority", task=gate, voters=[who], left_to_voters=True)
    with team.transactions.begin("ada") as session:
        assert approvals.waits_for(session, tasks.find(session, gate)) == "the approval of ada"
    with pytest.raises(Conflict, match="which decides nothing"):
        team.ask(options=None, mechanism="majority", task=gate, slug="another")
    ended = team.vote(who, vote, "approve")
    assert (ended.state, ended.applied_at is None, team.status(gate)) == ("decided", False, "awaiting_approval")
    assert team.rows("SELECT payload->>'effect' FROM events WHERE type = 'consensus.applied'") == [(None,)]
    with team.transactions.begin("ada") as session:
        assert approvals.decide(session, gate, Decision.APPROVE).status == "pending"


def test_a_task_that_was_cancelled_meanwhile_stays_so(team: Team) -> None:
    gate = team.gate()
    vote = team.ask(options=None, mechanism="majority", task=gate, voters=["ada"])
    with team.transactions.begin("bob") as session:
        task_ends.cancel(session, gate)
    assert team.vote("ada", vote, "approve").applied_at is not None
    assert team.status(gate) == "cancelled"
    assert team.rows("SELECT payload->>'effect' FROM events WHERE type = 'consensus.applied'") == [(None,)]


def test_an_outcome_that_cannot_be_carried_out_now_is_carried_out_later(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = team.gate(executor="node")
    vote = team.ask(options=None, mechanism="majority", task=gate, voters=["ada"])
    monkeypatch.setattr(limits, "settings", lambda: Settings(inference_tokens_per_day=1))
    ended = team.vote("ada", vote, "approve")
    assert (ended.state, ended.applied_at, team.status(gate)) == ("decided", None, "awaiting_approval")
    with team.transactions.begin("ada") as session, pytest.raises(Refused, match="which decides"):
        approvals.decide(session, gate, Decision.REJECT, reason="no")
    with team.transactions.begin(BEAT) as session:
        assert decisions.due(session) == [vote.id]
    monkeypatch.undo()
    assert team.settle(vote, BEAT).applied_at is not None
    assert team.status(gate) == "pending"
    assert team.rows("SELECT count(*) FROM outbox") == [(1,)]
