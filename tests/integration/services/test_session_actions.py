"""Actions of a session: let through by the voters whom one named who may decide, or at the gate; claimed and done as tasks; told of once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import approvals, decisions, findings, inboxes, session_actions, sessions, task_claims, tasks
from federation.services.approvals import Decision
from federation.services.findings import Said
from federation.services.replay import replay
from federation.services.session_actions import ActionView, Proposed
from federation.services.sessions import Start
from federation.store.models.tasks import AgentTask
from federation.transaction import Transactions, reading

NAME = "INC-1234"
ROLLBACK = {"content": "Roll back to v1.2.2", "type": "modify", "target": "deployment/web", "parameters": {"version": "v1.2.2"}}


class Room:
    """A session that ada, a lead, has begun and all have joined, and what they do in it."""

    def __init__(self, transactions: Transactions, database: str, **start: Any) -> None:
        self.transactions, self.database = transactions, database
        for name in ("ada", "bob", "dan", "eve"):
            with transactions.begin(name) as session:
                sessions.join(session, NAME, Start(context={"task": "look"}, **start) if name == "ada" else Start())

    def propose(self, who: str, *, slug: str | None = "rollback", **said: Any) -> ActionView:
        with self.transactions.begin(who) as session:
            return session_actions.view(session, session_actions.propose(session, NAME, Proposed(**ROLLBACK | said), slug=slug))

    def vote(self, who: str, shown: ActionView, response: str, **more: Any) -> None:
        assert shown.vote is not None
        with self.transactions.begin(who) as session:
            session_actions.vote(session, NAME, str(shown.action_id), response, options_hash=shown.vote.options_hash, **more)
        with self.transactions.begin("service:door") as session:
            decisions.settle(session, shown.vote.consensus_id)

    def shown(self, who: str = "eve") -> ActionView:
        with self.transactions.begin(who) as session:
            [found] = session_actions.views(session, sessions.find(session, NAME))
            return found

    def claimable(self, who: str) -> list[str | None]:
        with self.transactions.begin(who) as session:
            return [task.slug for task in session_actions.claimable(session, NAME)]

    def claim(self, who: str, name: str = "rollback") -> int | None:
        with self.transactions.begin(who) as session:
            return task_claims.claim(session, name, description="", ttl_s=60).fencing_token

    def told(self) -> list[tuple[str, str, dict[str, Any]]]:
        with psycopg.connect(self.database) as connection:
            query = "SELECT type, actor, payload FROM events WHERE stream LIKE 'session:%' AND type LIKE 'action.%' ORDER BY sequence"
            return connection.execute(query).fetchall()


@pytest.fixture
def voting(transactions: Transactions, database: str) -> Room:
    """One whose initiator let bob, dan and eve decide."""
    return Room(transactions, database, voters=["bob", "dan", "eve"])


@pytest.fixture
def gated(transactions: Transactions, database: str) -> Room:
    """One without voters."""
    return Room(transactions, database)


def test_the_rollback_of_the_patterns_is_voted_through_and_done(voting: Room) -> None:
    shown = voting.propose("bob")
    assert (shown.status, shown.agent, shown.type, shown.target, shown.parameters) == (
        "awaiting_approval",
        "bob",
        "modify",
        "deployment/web",
        {"version": "v1.2.2"},
    )
    assert shown.waiting_for == f"the vote {shown.vote.consensus_id}" if shown.vote else False
    assert voting.claimable("dan") == []
    voting.vote("bob", shown, "yes", confidence=0.9, reason="Error rate 5x baseline")
    voting.vote("dan", shown, "yes", confidence=0.85, reason="Matches previous incident pattern")
    now = voting.shown()
    assert now.vote is not None
    assert (now.status, now.vote.state) == ("awaiting_approval", "open"), "two are enough, and the third is heard all the same"
    voting.vote("eve", shown, "abstain", reason="No security implications detected")
    now = voting.shown()
    assert now.vote is not None
    assert (now.status, now.vote.state) == ("pending", "decided")
    assert (now.vote.votes_for, now.vote.votes_against, now.vote.abstentions) == (2, 0, 1)
    assert voting.claimable("dan") == ["rollback"]
    token = voting.claim("dan")
    assert voting.claimable("bob") == []
    with voting.transactions.begin("dan") as session:
        task_claims.complete(session, "rollback", fencing_token=token or 0, result={"error_rate": 0.01})
    assert (voting.shown().status, voting.shown().assigned_to, voting.shown().result) == ("completed", "dan", {"error_rate": 0.01})
    [(first, by, proposed), (last, taker, completed)] = voting.told()
    assert (first, by, last, taker) == ("action.proposed", "bob", "action.completed", "dan")
    assert proposed["action_id"] == completed["action_id"] == str(shown.action_id)
    assert (proposed["agent_id"], proposed["action"], proposed["consensus_id"]) == (
        "bob",
        {name: ROLLBACK[name] for name in ("type", "target", "parameters")},
        str(shown.vote.consensus_id) if shown.vote else None,
    )
    assert (completed["agent_id"], completed["status"], completed["result"]) == ("dan", "completed", {"error_rate": 0.01})


def test_what_cannot_wait_is_decided_as_soon_as_nothing_can_change_it(voting: Room) -> None:
    shown = voting.propose("bob", early=True)
    voting.vote("bob", shown, "yes")
    voting.vote("dan", shown, "yes")
    now = voting.shown()
    assert now.vote is not None
    assert (now.status, now.vote.state, now.vote.voted) == ("pending", "decided", ["bob", "dan"])
    with pytest.raises(Conflict, match="is decided already"):
        voting.vote("eve", shown, "abstain")


def test_a_voter_who_says_nothing_holds_it_up_to_its_deadline_and_no_longer(voting: Room) -> None:
    shown = voting.propose("bob")
    voting.vote("bob", shown, "yes")
    voting.vote("dan", shown, "yes")
    with psycopg.connect(voting.database) as connection:
        connection.execute("SELECT set_config('federation.actor', 'test:hand', true)")
        # A trigger keeps it as it was when the vote was asked for.
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE consensus SET deadline = clock_timestamp()")
    with voting.transactions.begin("service:beat") as session:
        for vote in decisions.due(session):
            decisions.settle(session, vote)
    now = voting.shown()
    assert now.vote is not None
    assert (now.status, now.vote.votes_for, now.vote.abstentions) == ("pending", 2, 0)


def test_what_more_than_half_do_not_want_is_not_done(voting: Room) -> None:
    shown = voting.propose("bob")
    voting.vote("bob", shown, "yes")
    voting.vote("dan", shown, "no")
    voting.vote("eve", shown, "abstain")
    now = voting.shown()
    assert now.vote is not None
    assert (now.status, now.vote.votes_for, now.vote.votes_against, now.vote.abstentions) == ("cancelled", 1, 1, 1)
    assert voting.claimable("dan") == []
    assert [type_ for type_, _, _ in voting.told()] == ["action.proposed"]


def test_nobody_votes_on_what_he_has_not_read(voting: Room) -> None:
    shown = voting.propose("bob")
    with voting.transactions.begin("dan") as session, pytest.raises(Refused, match="this is not the hash of what vote"):
        session_actions.vote(session, NAME, "rollback", "yes", options_hash="0" * 64)
    with voting.transactions.begin("ada") as session, pytest.raises(Refused, match="ada is not among the voters"):
        session_actions.vote(session, NAME, "rollback", "yes", options_hash=shown.vote.options_hash if shown.vote else "")
    with voting.transactions.begin("dan") as session, pytest.raises(InvalidInput, match="vote: got 'maybe', wants one of yes, no, abstain"):
        session_actions.vote(session, NAME, "rollback", "maybe", options_hash="0" * 64)


def test_while_it_is_voted_on_nobody_decides_alone(voting: Room) -> None:
    voting.propose("bob")
    with voting.transactions.begin("ada") as session, pytest.raises(Refused, match="it was put to the vote"):
        approvals.decide(session, "rollback", Decision.APPROVE)


def test_who_named_the_voters_does_not_have_his_own_action_voted_through_by_them(voting: Room) -> None:
    shown = voting.propose("ada")
    assert shown.vote is None
    assert shown.waiting_for == "the approval of lead or human, of whom none is here"
    with voting.transactions.begin("bob") as session, pytest.raises(Conflict, match="is not put to the vote: it awaits the approval of"):
        session_actions.vote(session, NAME, "rollback", "yes", options_hash="0" * 64)


@pytest.mark.parametrize(("name", "role"), [("ada", "developer"), ("dan", "observer")])
def test_voters_decide_while_they_may_vote_and_who_named_them_may_decide_himself(voting: Room, name: str, role: str) -> None:
    with psycopg.connect(voting.database) as connection:
        connection.execute("SELECT set_config('federation.actor', 'test:hand', true)")
        connection.execute("UPDATE agents SET role = %s WHERE name = %s", [role, name])
    shown = voting.propose("bob")
    assert (shown.status, shown.vote) == ("awaiting_approval", None)


def test_without_voters_an_action_waits_at_the_gate_that_is_there(gated: Room) -> None:
    shown = gated.propose("bob")
    assert (shown.vote, shown.waiting_for) == (None, "the approval of ada")
    with gated.transactions.begin("ada") as session:
        [*_, asked] = inboxes.inbox(session).messages
        assert "Task rollback awaits your approval, with {" in asked.content
        approvals.decide(session, "rollback", Decision.APPROVE)
    assert gated.claimable("eve") == ["rollback"]
    assert gated.claim("eve"), "an analyst begins a remedy from an accepted proposal"


def test_one_that_requires_no_approval_is_for_whoever_claims_it(gated: Room) -> None:
    look = {"content": "Which deployments?", "type": "query", "requires_approval": False}
    assert gated.propose("bob", slug="look", **look).status == "pending"
    with pytest.raises(Refused, match="eve, of the role analyst, begins work of the kind remediate from an accepted proposal only"):
        gated.propose("eve", requires_approval=False)
    with pytest.raises(Refused, match="bob, of the role developer, may not hand a task to another agent by name"):
        gated.propose("bob", slug="other", **look, agent="dan")
    gated.propose("ada", slug="for-dan", **look, agent="dan")
    assert (gated.claimable("eve"), gated.claimable("dan")) == (["look"], ["look", "for-dan"])


def test_proposed_again_under_its_name_it_is_one_action(voting: Room) -> None:
    shown = voting.propose("bob")
    assert voting.propose("bob") == shown
    assert len(voting.told()) == 1
    with pytest.raises(Conflict, match="task 'rollback' exists in conversation commons already, delegated by bob"):
        voting.propose("dan")


def test_what_is_not_an_action_of_this_session_is_not_found_in_it(voting: Room) -> None:
    voting.propose("bob")
    with voting.transactions.begin("ada") as session:
        tasks.delegate(session, "something else", slug="elsewhere")
        sessions.join(session, "INC-2", Start(context={}))
    for where, name in ((NAME, "elsewhere"), ("INC-2", "rollback"), (NAME, "nothing")):
        with voting.transactions.begin("ada") as session, pytest.raises(NotFound, match=f"no action '{name}'"):
            session_actions.action(session, sessions.find(session, where), name)
    for said, says in (({"type": "destroy"}, "type: got 'destroy', wants 'query', 'modify'"), ({"target": ""}, "target: got ''")):
        with pytest.raises(InvalidInput, match=says):
            voting.propose("bob", slug="bad", **said)


def test_an_action_that_failed_is_told_too_and_one_that_lapsed_may_be_taken_over(gated: Room) -> None:
    gated.propose("bob", type="query", requires_approval=False)
    gated.claim("bob")
    with psycopg.connect(gated.database) as connection:
        connection.execute("SELECT set_config('federation.actor', 'test:hand', true)")
        connection.execute("UPDATE claims SET expires_at = clock_timestamp()")
    assert gated.claimable("dan") == ["rollback"]
    token = gated.claim("dan")
    with gated.transactions.begin("dan") as session:
        task_claims.complete(session, "rollback", fencing_token=token or 0, result={"why": "no logs"}, success=False)
    assert [(type_, payload["status"]) for type_, _, payload in gated.told()[1:]] == [("action.completed", "failed")]
    with gated.transactions.begin("eve") as session:
        assert session.get_one(AgentTask, gated.shown().action_id).session_id == sessions.find(session, NAME).id


def test_nobody_is_in_anybodys_way_however_many_write_at_once(voting: Room) -> None:
    """Findings, actions, votes, claims and joins of all at once end without a deadlock, and are what their events say."""

    def work(number: int) -> None:
        who = ("bob", "dan", "eve")[number % 3]
        match number % 4:
            case 0:
                with voting.transactions.begin(who) as session:
                    findings.post(session, NAME, Said(content=f"{number}", category="observation", evidence=[{"source": "s", "query": "q"}]))
            case 1:
                shown = voting.propose(who, slug=f"repair-{number}", early=True)
                for voter in ("bob", "dan"):
                    voting.vote(voter, shown, "yes")
            case 2:
                voting.propose(who, slug=f"look-{number}", type="query", requires_approval=False)
                token = voting.claim(who, f"look-{number}")
                with voting.transactions.begin(who) as session:
                    task_claims.complete(session, f"look-{number}", fencing_token=token or 0, result={})
            case 3:
                with voting.transactions.begin(who) as session:
                    sessions.join(session, NAME, Start(context={f"{number}": number}), focus=f"{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(48)))
    with reading(voting.transactions.service) as session:
        assert replay(session).differences == []
