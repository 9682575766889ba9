"""A conversation goes from phase to phase when what each asks for is so, by who may move it; what rests and is held meanwhile, is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from federation.charter import Phase, Right, charter_text
from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import (
    approvals,
    assignments,
    consensus,
    conversations,
    executions,
    inboxes,
    messages,
    phase_moves,
    phases,
    task_claims,
    task_lists,
    tasks,
)
from federation.services.approvals import Decision
from federation.services.electorates import Asked
from federation.store.models.conversations import ConversationPhase
from federation.store.models.events import Event
from federation.store.models.executions import Execution
from federation.transaction import Transactions

WHERE = "release"


@pytest.fixture(autouse=True)
def _members(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        conversations.open_for(session, WHERE, ["bob", "dan"])


def move(transactions: Transactions, to: str, who: str = "ada", reason: str = "") -> ConversationPhase:
    with transactions.begin(who) as session:
        return phase_moves.move(session, WHERE, to, reason=reason)


def missing(transactions: Transactions) -> list[str]:
    with transactions.begin("bob") as session:
        return [each.partition(" ")[0] for each in phase_moves.standing(session, WHERE).missing]


def say(transactions: Transactions, *names: str) -> None:
    for name in names:
        with transactions.begin(name) as session:
            messages.send(session, "I think so", conversation_id=WHERE)


def propose(transactions: Transactions, who: str = "bob", slug: str = "restart", **terms: Any) -> None:
    with transactions.begin(who) as session:
        tasks.delegate(session, "Restart it", slug=slug, conversation_id=WHERE, requires_approval=True, task_type="remediate", **terms)


def decide(transactions: Transactions, decision: Decision = Decision.APPROVE, slug: str = "restart") -> None:
    with transactions.begin("ada") as session:
        approvals.decide(session, slug, decision, reason="because")


def to_decide(transactions: Transactions, **terms: Any) -> None:
    """Go on to the phase decide, with a proposal."""
    move(transactions, "propose")
    propose(transactions, **terms)
    move(transactions, "discuss")
    say(transactions, "bob", "dan")
    move(transactions, "decide")


def test_a_round_goes_through_all_phases_each_when_what_it_asks_for_is_so(transactions: Transactions) -> None:
    with transactions.begin("bob") as session:
        stands = phase_moves.standing(session, WHERE)
    assert (stands.phase, stands.next, stands.missing, stands.rests, stands.holds) == (None, "propose", [], [], [])
    move(transactions, "propose", reason="begin")
    assert missing(transactions) == ["something"]
    with pytest.raises(Conflict, match="release goes on to discuss when something was proposed in it: a task with requires_approval=true"):
        move(transactions, "discuss")
    propose(transactions)
    move(transactions, "discuss")
    say(transactions, "bob", "bob")
    with pytest.raises(Conflict, match="release goes on to decide when 2 members or more have said something to all in it"):
        move(transactions, "decide")
    say(transactions, "dan")
    move(transactions, "decide")
    with pytest.raises(Conflict, match="goes on to execute when something was decided in it, by an approval or a vote, and nothing awaits"):
        move(transactions, "execute")
    decide(transactions)
    move(transactions, "execute")
    assert missing(transactions) == ["all"]
    with transactions.begin("bob") as session:
        token = task_claims.claim(session, "restart", description="", ttl_s=60).fencing_token
    with transactions.begin("bob") as session:
        task_claims.complete(session, "restart", fencing_token=token or 0, result={})
    last = move(transactions, "review")
    with transactions.begin("bob") as session:
        stands = phase_moves.standing(session, WHERE)
    assert (stands.phase, stands.next, stands.missing, stands.moved_by, last.number) == ("review", None, [], "ada", 5)
    # Another round asks for everything anew.
    move(transactions, "propose")
    assert missing(transactions) == ["something"]
    with transactions.begin("test:hand") as session:
        told = [
            (event.payload["former"], event.payload["phase"])
            for event in session.scalars(select(Event).where(Event.type == "conversation.moved").order_by(Event.sequence))
        ]
    assert told == [(None, "propose"), *zip(Phase, [*Phase][1:], strict=False), ("review", "propose")]


def test_only_who_may_moves_it_and_a_stranger_learns_nothing(transactions: Transactions) -> None:
    with pytest.raises(Refused, match=r"Explicit .*: bob, of the role developer, may not move a conversation on .*; lead may: ask one of them"):
        move(transactions, "propose", who="bob")
    with pytest.raises(NotFound, match="no conversation 'release'"):
        move(transactions, "propose", who="eve")
    with pytest.raises(NotFound), transactions.begin("eve") as session:
        phase_moves.standing(session, WHERE)
    with pytest.raises(InvalidInput, match="phase: got 'dance', wants one of propose, discuss, decide, execute, review"):
        move(transactions, "dance")
    # The operator acts in his own right, and needs to be no member.
    assert move(transactions, "propose", who="cli:root").created_by == "cli:root"


def test_no_phase_is_left_out_and_the_way_back_is_open(transactions: Transactions) -> None:
    with pytest.raises(Conflict, match="release is in no phase; propose comes before discuss"):
        move(transactions, "discuss")
    to_decide(transactions)
    move(transactions, "propose")
    with pytest.raises(Conflict, match="release is in its phase propose; discuss comes before execute"):
        move(transactions, "execute")
    assert move(transactions, "propose").number == move(transactions, "propose").number == 4


def test_members_hear_of_it_once(transactions: Transactions) -> None:
    for _ in range(2):
        move(transactions, "propose", reason="we need a plan")
    with transactions.begin("dan") as session:
        [heard] = inboxes.inbox(session).messages
    assert (heard.sender, heard.message_type, heard.content) == ("ada", "status", "release is in its phase propose now: we need a plan")


def test_of_two_who_move_it_at_once_one_does(transactions: Transactions) -> None:
    with ThreadPoolExecutor(4) as pool:
        moved = list(pool.map(lambda who: move(transactions, "propose", who), ("ada", "cli:root", "ada", "cli:root")))
    assert {(one.number, one.created_by) for one in moved} == {(1, moved[0].created_by)}
    with transactions.begin("test:hand") as session:
        assert session.scalar(select(func.count()).select_from(ConversationPhase)) == 1


def test_what_rests_in_a_phase_is_refused_with_the_way_out_and_elsewhere_it_is_not(transactions: Transactions) -> None:
    with transactions.begin("bob") as session:
        tasks.delegate(session, "Elsewhere", slug="elsewhere", requires_approval=True)
    move(transactions, "propose")
    propose(transactions)
    says = "Propose .*: release is in its phase propose, in which nobody may decide on tasks that await approval; federation_phase says"
    with pytest.raises(Refused, match=says):
        decide(transactions)
    decide(transactions, slug="elsewhere")
    with transactions.begin("cli:root") as session:
        assert approvals.settle(session, task_lists.anywhere(session, "restart")[0], Decision.APPROVE, reason="").decided_by == "cli:root"


@pytest.mark.parametrize("phase", ["propose", "discuss", "decide", "review"])
def test_work_that_a_phase_holds_is_not_begun_in_it(transactions: Transactions, phase: str) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "Fix it", slug="fix", conversation_id=WHERE, task_type="remediate")
        tasks.delegate(session, "Look at it", slug="look", conversation_id=WHERE)
        session.add(ConversationPhase(conversation_id=WHERE, number=1, phase=phase, reason="", created_by="ada"))
        told = {"number": 1, "phase": phase, "former": None, "reason": ""}
        phase_moves.event_log.append(session, "conversation.moved", f"conversation:{WHERE}", payload=told, conversation_id=WHERE)
    held = f"release is in its phase {phase}, in which work of the kind remediate is not begun"
    with pytest.raises(Refused, match=f"{held}: wait. federation_phase says"), transactions.begin("bob") as session:
        task_claims.claim(session, "fix", description="", ttl_s=60)
    for executor in ("agent", "node"):
        with pytest.raises(Refused, match=f"{held}: propose it with requires_approval=true"), transactions.begin("ada") as session:
            tasks.delegate(session, "Fix more", conversation_id=WHERE, task_type="remediate", executor=executor)
    with transactions.begin("bob") as session:
        assert task_claims.claim(session, "look", description="", ttl_s=60).claimed


def test_who_is_at_work_may_go_on_when_the_phase_ends(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "Fix it", slug="fix", conversation_id=WHERE, task_type="remediate")
    with transactions.begin("bob") as session:
        token = task_claims.claim(session, "fix", description="", ttl_s=60).fencing_token
    move(transactions, "propose")
    with transactions.begin("bob") as session:
        assert task_claims.claim(session, "fix", description="", ttl_s=600).fencing_token == token
    with transactions.begin("bob") as session:
        assert task_claims.complete(session, "fix", fencing_token=token or 0, result={}).status == "completed"


@pytest.mark.parametrize("how", ["approval", "vote"])
def test_what_is_approved_for_a_node_in_a_phase_that_holds_it_begins_later(transactions: Transactions, publisher: Any, how: str) -> None:
    from federation.services import decisions, votes

    to_decide(transactions, executor="node")
    if how == "approval":
        decide(transactions)
    else:
        with transactions.begin("ada") as session:
            vote = consensus.request(session, Asked(question="Restart?", voters=["ada", "dan"], task="restart"))
        for name in ("ada", "dan"):
            with transactions.begin(name) as session:
                consensus.acknowledge(session, str(vote.id), vote.options_hash)
                votes.respond(session, str(vote.id), ["approve"])
        with transactions.begin("service:door") as session:
            assert decisions.settle(session, vote.id).applied_at is not None
    with transactions.begin("ada") as session:
        assert tasks.find(session, "restart").status == "pending"
    assert publisher.published == []
    move(transactions, "execute")
    with transactions.begin("test:hand") as session:
        execution = session.scalars(select(Execution)).one()
        assert (execution.actor, execution.updated_by) == ("bob", "bob"), "in the name of who asked for it"
        assert executions.of_task(session, execution.agent_task_id) == publisher.published == [execution.id]
    move(transactions, "decide")
    assert len(publisher.published) == 1


def test_no_approval_is_lost_between_two_phases(transactions: Transactions, publisher: Any) -> None:
    to_decide(transactions, executor="node")
    propose(transactions, slug="second", executor="node")
    decide(transactions, Decision.REJECT, slug="second")

    def approve() -> None:
        decide(transactions)

    def go_on() -> bool:
        try:
            move(transactions, "execute")
        except Conflict:
            return False  # it came before the approval
        return True

    with ThreadPoolExecutor(2) as pool:
        approved, moved = pool.submit(approve), pool.submit(go_on)
        approved.result()
        if not moved.result():
            move(transactions, "execute")
    assert len(publisher.published) == 1


def test_phases_are_what_the_charter_says_and_one_without_a_table_is_free(transactions: Transactions, chartered: Callable[[str], None]) -> None:
    before, _, after = charter_text().partition("[phases.propose]")
    rest = after[after.index("# A table for each role") :]
    chartered(f'{before}[phases.discuss]\nenter = ["done"]\nrests = ["claim", "vote"]\n\n{rest}')
    with transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="t", conversation_id=WHERE)
    move(transactions, "propose")
    with pytest.raises(Conflict, match="goes on to discuss when all its tasks have ended"):
        move(transactions, "discuss")
    with transactions.begin("ada") as session:
        from federation.services import task_ends

        task_ends.cancel(session, "t")
    with transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="elsewhere")
    move(transactions, "discuss")
    with transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="u", conversation_id=WHERE)
    with pytest.raises(Refused, match="in its phase discuss, in which nobody may take tasks"), transactions.begin("bob") as session:
        task_claims.claim(session, "u", description="", ttl_s=60)
    with transactions.begin("bob") as session:
        assert task_claims.claim(session, "elsewhere", description="", ttl_s=60).claimed
    with pytest.raises(Refused, match="in its phase discuss, in which nobody may take part in votes"), transactions.begin("bob") as session:
        consensus.request(session, Asked(question="?", conversation_id=WHERE))
    with transactions.begin("bob") as session:
        assert sorted(phase_moves.standing(session, WHERE).rests) == [Right.CLAIM, Right.VOTE]
        assert phases.phase(session, "commons") is None
        assert assignments.roles(session, WHERE) == []
