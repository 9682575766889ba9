"""What the charter does not let a role do is refused with its principle, with who may, and with what to do instead."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from federation.charter import charter_text
from federation.errors import NotFound, Refused
from federation.services import agents, approvals, retrieval, task_claims, tasks
from federation.services.approvals import Decision

ASSIGN, PROPOSE, CLAIM = "Explicit assignment prevents duplicate work:", "Propose before you implement:", "Claim before you code:"
REVIEWER = '\n[roles.reviewer]\nabout = "Reads and decides."\nmay = ["claim", "approve"]\n'


@pytest.fixture
def zoe(transactions) -> str:
    """An agent of the role observer."""
    with transactions.begin("test:setup") as session:
        agents.add(session, "zoe", "observer")
    return "zoe"


BY_NAME = {"agent": "dan"}
BY_ROLE = {"requirements": {"role": "analyst"}}
ON_A_NODE = {"executor": "node"}
REFUSED = [
    ("bob", BY_NAME, ASSIGN, "bob, of the role developer, may not hand a task to another agent by name, or to a role; lead or human may"),
    ("bob", BY_ROLE, ASSIGN, "leave out agent and role, so that the first who claims it does it, or propose it with requires_approval=true."),
    ("eve", BY_NAME, ASSIGN, "eve, of the role analyst,"),
    ("zoe", {}, ASSIGN, "zoe, of the role observer, may not put up a task for whoever claims it first"),
    # What an observer may not do either is not offered.
    (
        "zoe",
        BY_NAME,
        ASSIGN,
        "zoe, of the role observer, may not hand a task to another agent by name, or to a role; lead or human may: ask one of them",
    ),
    (
        "zoe",
        ON_A_NODE,
        ASSIGN,
        "may not hand a task to a node, have one index a folder, or set when conversations are summarised; "
        "lead or developer or analyst or human or service may",
    ),
    # What an observer may not do either is not offered.
    (
        "zoe",
        BY_NAME,
        ASSIGN,
        "zoe, of the role observer, may not hand a task to another agent by name, or to a role; lead or human may: ask one of them",
    ),
    ("zoe", {"requires_approval": True}, ASSIGN, "may not put up a task for whoever claims it first, or propose one"),
    ("eve", {"task_type": "remediate"}, PROPOSE, "from an accepted proposal only: call again with requires_approval=true."),
    ("eve", {"task_type": "remediate", **ON_A_NODE}, PROPOSE, "eve, of the role analyst, begins work of the kind remediate"),
]


@pytest.mark.parametrize(("who", "what", "principle", "says"), REFUSED)
def test_delegation_beyond_a_role_is_refused_with_the_principle(
    transactions, publisher, zoe: str, who: str, what: dict[str, Any], principle: str, says: str
) -> None:
    with pytest.raises(Refused, match=re.escape(says)) as raised, transactions.begin(who) as session:
        tasks.delegate(session, "d", **what)
    assert raised.value.principle == principle
    assert publisher.published == []


def test_a_folder_is_indexed_for_who_may_hand_work_to_a_node(transactions, publisher, zoe: str) -> None:
    with (
        pytest.raises(Refused, match="zoe, of the role observer, may not hand a task to a node, have one index"),
        transactions.begin(zoe) as session,
    ):
        retrieval.request_index(session, "/srv/code")
    assert publisher.published == []
    with transactions.begin("bob") as session:
        retrieval.request_index(session, "/srv/code")
    assert len(publisher.published) == 1


@pytest.mark.parametrize(
    ("who", "what"),
    [
        ("ada", BY_NAME),
        ("ada", BY_ROLE),
        ("ada", {"task_type": "remediate", **ON_A_NODE}),
        ("bob", {}),
        ("bob", {"agent": "bob"}),
        ("bob", {"agent": "bob", "requirements": {"role": "developer"}}),
        ("bob", {**BY_NAME, "requires_approval": True}),
        ("eve", {"executor": "node", "requirements": {"role": "developer"}}),
        ("eve", {"task_type": "remediate", "requires_approval": True}),
    ],
)
def test_delegation_within_a_role_is_recorded(transactions, who: str, what: dict[str, Any]) -> None:
    with transactions.begin(who) as session:
        assert tasks.delegate(session, "d", **what).created_by == who


def test_who_is_neither_agent_nor_operator_has_no_right(transactions) -> None:
    with pytest.raises(NotFound, match="no agent 'mallory'"), transactions.begin("mallory") as session:
        tasks.delegate(session, "d")


def test_observer_takes_no_task_and_nobody_completes_what_he_has_not_claimed(transactions, zoe: str) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="t")
    with pytest.raises(Refused, match="zoe, of the role observer, may not take tasks") as raised, transactions.begin(zoe) as session:
        task_claims.claim(session, "t", description="", ttl_s=60)
    assert raised.value.principle == CLAIM
    with pytest.raises(Refused, match="claim it first") as raised, transactions.begin("bob") as session:
        task_claims.complete(session, "t", fencing_token=1, result={})
    assert raised.value.principle == CLAIM


def take(session: Any, reference: str) -> bool:
    return task_claims.claim(session, reference, description="", ttl_s=60).claimed


def test_analyst_changes_things_from_an_accepted_proposal_only(transactions) -> None:
    remediate = {"task_type": "remediate"}
    with transactions.begin("bob") as session:
        tasks.delegate(session, "d", slug="open", **remediate)
    with transactions.begin("ada") as session:
        tasks.delegate(session, "d", slug="ordered", agent="eve", **remediate)
    with transactions.begin("eve") as session:
        tasks.delegate(session, "d", slug="proposed", agent="eve", requires_approval=True, **remediate)
        assert take(session, "ordered"), "who may approve asked for it"
    with pytest.raises(Refused, match="propose it as a task of your own with requires_approval=true") as raised, transactions.begin("eve") as session:
        take(session, "open")
    assert raised.value.principle == PROPOSE
    with pytest.raises(Refused, match="task proposed awaits approval") as raised, transactions.begin("eve") as session:
        take(session, "proposed")
    assert raised.value.principle == PROPOSE
    with transactions.begin("ada") as session:
        approvals.decide(session, "proposed", Decision.APPROVE)
    with transactions.begin("eve") as session:
        assert take(session, "proposed")
    with transactions.begin("dan") as session:
        assert take(session, "open"), "a developer's work needs a claim and no proposal"


def test_role_of_a_teams_own_has_agents_work_and_rights(transactions, chartered: Callable[[str], None]) -> None:
    with pytest.raises(NotFound, match="no role 'reviewer'; "), transactions.begin("test:setup") as session:
        agents.add(session, "rea", "reviewer")
    chartered(charter_text() + REVIEWER)
    with transactions.begin("test:setup") as session:
        agents.add(session, "rea", "reviewer")
    with transactions.begin("ada") as session:
        tasks.delegate(session, "Read it", slug="read", requirements={"role": "reviewer"})
    with transactions.begin("bob") as session:
        tasks.delegate(session, "Write it", slug="write", agent="dan", requires_approval=True)
    with transactions.begin("rea") as session:
        assert take(session, "read")
        assert approvals.decide(session, "write", Decision.APPROVE).status == "assigned"
    with pytest.raises(Refused, match="rea, of the role reviewer, may not hand a task to a node"), transactions.begin("rea") as session:
        tasks.delegate(session, "d", **ON_A_NODE)


def test_agent_whose_role_has_left_the_charter_has_no_right(transactions, chartered: Callable[[str], None]) -> None:
    before = charter_text()
    chartered(before + REVIEWER)
    with transactions.begin("test:setup") as session:
        agents.add(session, "rea", "reviewer")
    chartered(before)
    with (
        pytest.raises(Refused, match="reviewer, which is not in the charter any more, may not"),
        transactions.begin("rea") as session,
    ):
        tasks.delegate(session, "d")


def test_refusal_is_in_the_words_of_the_teams_own_charter(transactions, chartered: Callable[[str], None]) -> None:
    chartered(charter_text().replace("Explicit assignment prevents duplicate work.", "Nobody is told twice."))
    with pytest.raises(Refused, match=r"^Nobody is told twice: bob"), transactions.begin("bob") as session:
        tasks.delegate(session, "d", agent="dan")
