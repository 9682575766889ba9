"""Votes from the request to the outcome: who may vote on what, once, after seeing it; ended once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from federation.charter import charter_text
from federation.consensus.ballots import Ballot
from federation.consensus.mechanisms import MECHANISMS, Name
from federation.consensus.tally import tally
from federation.errors import Conflict, Equivocation, InvalidInput, NotFound, Refused
from federation.services import (
    agents,
    consensus,
    decisions,
    inboxes,
    statements,
    votes,
)
from federation.store.context import context
from federation.transaction import Transactions
from tests.integration.services.voting.conftest import ALL, AUTH, BEAT, DOOR, Team
from tests.integration.world import until


def test_the_poll_of_the_whitepaper_ends_by_itself(team: Team) -> None:
    vote = team.ask()
    assert [team.vote(name, vote, option).state for name, option in (("ada", "OAuth2"), ("bob", "JWT"), ("dan", "OAuth2"))] == [
        "open",
        "open",
        "decided",
    ]
    found = team.results("eve", vote)
    assert (found.winner, found.votes) == ("OAuth2", {"OAuth2": 2, "JWT": 1})
    assert [(one.voter, one.response, one.mode) for one in found.ballots or []] == [
        ("ada", ["OAuth2"], "attested"),
        ("bob", ["JWT"], "attested"),
        ("dan", ["OAuth2"], "attested"),
    ]
    assert team.told(vote) == ["consensus.requested", *["consensus.acknowledged", "consensus.voted"] * 3, "consensus.closed"]


def test_the_rollback_of_the_patterns_document(team: Team) -> None:
    vote = team.ask(question="Rollback to v1.2.3?", options=None, mechanism="majority", quorum="majority", slug="rollback")
    team.vote("ada", vote, "yes", confidence=0.9, reason="Error rate 5x baseline")
    assert team.vote("bob", vote, "yes", confidence=0.85, reason="Matches previous incident pattern").state == "decided"
    # That two of three are for it is enough, and the third may still say why he is for nothing where all are waited for.
    waiting = team.ask(question="Rollback to v1.2.3?", options=None, mechanism="majority", early=False, slug="rollback-2")
    for name, response in (("ada", "yes"), ("bob", "yes"), ("dan", "abstain")):
        team.vote(name, waiting, response)
    found = team.results("ada", waiting)
    assert (found.state, found.winner, found.votes, found.abstained) == ("decided", "yes", {"yes": 2}, 1)


def test_nobody_votes_before_having_acknowledged_exactly_what_is_voted_on(team: Team) -> None:
    vote = team.ask()
    with pytest.raises(Refused, match="See all options before you vote: you have not acknowledged"):
        team.respond("bob", vote, "JWT")
    with team.transactions.begin("bob") as session, pytest.raises(Refused, match="not the hash of what vote auth-decision is about"):
        consensus.acknowledge(session, "auth-decision", "0" * 64)
    assert team.acknowledge("bob", vote).acknowledged == 1
    assert team.acknowledge("bob", vote).acknowledged == 1
    assert team.respond("bob", vote, "JWT").ballot.choice == "JWT"
    assert team.told(vote) == ["consensus.requested", "consensus.acknowledged", "consensus.voted"]


def test_changed_options_void_what_was_voted_and_want_a_new_acknowledgement(team: Team) -> None:
    first = team.ask()
    team.vote("bob", first, "JWT", voice=team.signs("bob"))
    team.acknowledge("dan", first)
    with team.transactions.begin("bob") as session, pytest.raises(Refused, match="only they change it"):
        consensus.replace(session, "auth-decision", "Which?", ["a", "b"])
    with team.transactions.begin("ada", voice=team.signs("door")) as session:
        changed = consensus.replace(session, "auth-decision", AUTH["question"], ["OAuth2", "JWT", "mTLS"])
    assert (changed.revision, changed.options_hash == first.options_hash) == (2, False)
    assert changed.proposal | {"revision": 1, "options": AUTH["options"]} == first.proposal
    for name in ("bob", "dan"):
        with pytest.raises(Refused, match="it was changed since you read it"):
            team.respond(name, changed, "mTLS")
    with pytest.raises(Refused, match="not the hash"):
        team.acknowledge("dan", first)
    # Another option than in the first revision is no contradiction.
    team.vote("bob", changed, "mTLS", voice=team.signs("bob"))
    team.vote("dan", changed, "mTLS")
    found = team.results("bob", changed)
    assert (found.winner, found.votes, found.void, found.revision) == ("mTLS", {"mTLS": 2}, [], 2)
    with team.transactions.begin("ada") as session, pytest.raises(Conflict, match="is decided already"):
        consensus.replace(session, "auth-decision", AUTH["question"], ["a", "b"])


def test_the_same_ballot_again_is_the_same_and_another_is_refused(team: Team) -> None:
    vote = team.ask()
    team.vote("bob", vote, "JWT", confidence=0.7)
    assert team.respond("bob", vote, "JWT", confidence=0.7).ballot.confidence == 0.7
    for other, more in (("OAuth2", {"confidence": 0.7}), ("JWT", {"confidence": 0.8}), ("JWT", {"confidence": 0.7, "reason": "so"})):
        with pytest.raises(Conflict, match="you voted 'JWT' in auth-decision already"):
            team.respond("bob", vote, other, **more)
    assert team.rows("SELECT choice FROM ballots") == [("JWT",)]
    team.vote("ada", vote, "JWT")
    # The first answer may have been lost with the connection.
    assert team.respond("bob", vote, "JWT", confidence=0.7).vote.state == "decided"


@pytest.mark.parametrize("first", ["JWT", "OAuth2"])
def test_two_signed_ballots_of_one_voter_are_both_kept_and_neither_counts(team: Team, first: str) -> None:
    """Whichever came first."""
    second = {"JWT": "OAuth2", "OAuth2": "JWT"}[first]
    vote = team.ask()
    team.vote("bob", vote, first, voice=team.signs("bob"))
    with pytest.raises(Equivocation, match="while the vote is open neither counts, and both signatures are kept"):
        team.respond("bob", vote, second, voice=team.signs("bob"))
    with pytest.raises(Conflict, match="you voted"):
        team.respond("bob", vote, "Custom", voice=team.signs("bob"))
    team.vote("dan", vote, "JWT")
    assert team.vote("ada", vote, "JWT").state == "decided"
    found = team.results("eve", vote)
    assert (found.winner, found.votes, found.void, found.voted) == ("JWT", {"JWT": 2}, ["bob"], ["ada", "bob", "dan"])
    [evidence] = found.equivocations
    assert (evidence.voter, evidence.choices, len(set(evidence.statements))) == ("bob", [first, second], 2)
    with team.transactions.begin("test:hand") as session:
        assert [one.choice for one in statements.equivocations(session)] == [first, second]


def test_what_contradicts_after_the_end_is_evidence_and_changes_nothing(team: Team) -> None:
    vote = team.ask(voters=["bob"])
    assert team.vote("bob", vote, "JWT", voice=team.signs("bob")).state == "decided"
    with pytest.raises(Equivocation, match="its outcome stands"):
        team.respond("bob", vote, "OAuth2", voice=team.signs("bob"))
    found = team.results("ada", vote)
    assert (found.winner, found.void, [one.choices for one in found.equivocations]) == ("JWT", [], [["JWT", "OAuth2"]])


def test_what_contradicts_after_the_deadline_changes_nothing_though_the_vote_is_not_ended(team: Team) -> None:
    vote = team.ask(early=False)
    for name in ("bob", "ada"):
        team.vote(name, vote, "JWT", voice=team.signs(name))
    team.end_of_time(vote)
    with pytest.raises(Equivocation, match="its outcome stands"):
        team.respond("bob", vote, "OAuth2", voice=team.signs("bob"))
    assert team.settle(vote).state == "decided"
    found = team.results("ada", vote)
    assert (found.winner, found.votes, found.void, [one.choices for one in found.equivocations]) == ("JWT", {"JWT": 2}, [], [["JWT", "OAuth2"]])


def test_a_vote_is_closed_after_all_that_is_counted_though_who_ends_it_stood_still(team: Team) -> None:
    vote = team.ask(voters=["bob"])
    team.vote("bob", vote, "JWT", settle=False)
    with team.transactions.begin(DOOR) as session:
        # As a process that was held up between PostgreSQL's answer and its look at its own clock.
        context(session).began_s += 3600
        assert decisions.settle(session, vote.id).state == "decided"
    assert team.rows(
        "SELECT closed_at > ballots.created_at FROM consensus JOIN ballots ON consensus_id = consensus.id WHERE consensus.id = %s", vote.id
    ) == [(True,)]


def test_the_electorate_is_fixed_when_it_is_asked(team: Team) -> None:
    vote = team.ask(voters=None)
    assert [one["agent"] for one in vote.proposal["electorate"]] == list(ALL)
    with team.transactions.begin("test:setup") as session:
        agents.add(session, "late", "developer")
    with team.transactions.begin("late") as session, pytest.raises(Refused, match="late is not among the voters of auth-decision"):
        consensus.acknowledge(session, "auth-decision", vote.options_hash)
    with psycopg.connect(team.url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege, match="only question and options change"):
        connection.execute("""UPDATE consensus SET proposal = jsonb_set(proposal, '{electorate}', '[{"agent": "late", "weight": 9}]')""")


def test_what_was_closed_stays_closed_and_ballots_are_never_changed(team: Team) -> None:
    vote = team.ask(voters=["bob"])
    team.vote("bob", vote, "JWT")
    for statement in (
        'UPDATE consensus SET outcome = \'{"winner": "Custom"}\'',
        "UPDATE consensus SET state = 'open'",
        "UPDATE ballots SET choice = 'Custom'",
        "DELETE FROM ballots",
        "TRUNCATE consensus_acks",
    ):
        with psycopg.connect(team.url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


def test_what_others_voted_is_hidden_until_the_end_or_shown_by_choice(team: Team) -> None:
    hidden, shown = team.ask(), team.ask(slug="open-vote", shown=True)
    for vote in (hidden, shown):
        team.vote("bob", vote, "JWT", voice=team.signs("bob"))
    for name in ("ada", "eve"):
        found = team.results(name, hidden)
        assert (found.votes, found.ballots, found.voted, found.abstained, found.acknowledged) == (None, [], ["bob"], None, ["bob"])
        with team.transactions.begin(name) as session:
            # As a query that somebody forgot a condition in.
            assert session.execute(text("SELECT count(*) FROM ballots WHERE consensus_id = :id"), {"id": hidden.id}).scalar_one() == 0
            stated = "SELECT count(*) FROM statements WHERE actor = 'bob' AND subject LIKE :subject"
            assert session.execute(text(stated), {"subject": f"consensus:{hidden.id}%"}).scalar_one() == 0
            assert session.execute(text(stated), {"subject": f"consensus:{shown.id}%"}).scalar_one() == 1
        assert team.results(name, shown).votes == {"JWT": 1}
    assert [one.response for one in team.results("bob", hidden).ballots or []] == [["JWT"]]
    team.vote("ada", hidden, "JWT")
    assert team.results("eve", hidden).votes == {"JWT": 2}


def test_a_deadline_ends_a_vote_once_whoever_looks(team: Team) -> None:
    vote = team.ask(mechanism="majority", quorum=0)
    team.vote("bob", vote, "JWT")
    assert team.settle(vote, BEAT).state == "open"
    with team.transactions.begin(BEAT) as session:
        assert decisions.due(session) == []
    team.end_of_time(vote)
    team.acknowledge("bob", vote)
    with pytest.raises(Conflict, match="vote auth-decision ended at"):
        team.acknowledge("dan", vote)
    with team.transactions.begin(BEAT) as session:
        assert decisions.due(session) == [vote.id]
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda _: team.settle(vote, BEAT), range(4)))
    assert {(one.state, one.outcome["winner"]) for one in ended if one.outcome} == {("decided", "JWT")}
    assert team.told(vote, "consensus.closed") == ["consensus.closed"]
    with team.transactions.begin(BEAT) as session:
        assert decisions.due(session) == []
    with pytest.raises(Conflict, match="is decided already"):
        team.acknowledge("dan", vote)


def test_too_few_decide_nothing(team: Team) -> None:
    vote = team.ask()
    team.vote("bob", vote, "JWT")
    team.end_of_time(vote)
    assert team.settle(vote, BEAT).state == "undecided"
    assert team.results("ada", vote).reason == "no_quorum"


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def test_of_one_voters_ballots_at_once_the_first_stands(team: Team, transactions: Transactions) -> None:
    vote = team.ask(early=False)
    team.acknowledge("bob", vote)
    with ThreadPoolExecutor(2) as pool:
        with transactions.begin("bob", voice=team.signs("door")) as session:
            votes.respond(session, str(vote.id), ["JWT"])
            others = [pool.submit(team.respond, "bob", vote, option) for option in ("JWT", "OAuth2")]
            until(lambda: team.rows(_WAITING) == [(2,)], "both wait for the one that is not committed")
        same, contrary = others
        assert same.result().ballot.response == ["JWT"]
        with pytest.raises(Conflict, match="you voted 'JWT' in auth-decision already"):
            contrary.result()
    assert team.told(vote).count("consensus.voted") == 1


def test_voters_at_once_are_all_counted_and_it_ends_once(team: Team, transactions: Transactions) -> None:
    names = [f"voter-{number}" for number in range(12)]
    with transactions.begin("test:setup") as session:
        for name in names:
            agents.add(session, name, "developer")
    vote = team.ask(options=["yes", "no"], mechanism="majority", voters=names)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: team.vote(name, vote, "yes" if name[-1] in "02468" else "no"), names[:11]))
    # Six against five, and one is out: nothing is fixed yet.
    assert team.told(vote, "consensus.closed") == []
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda name: team.vote(name, vote, "yes"), [names[11]] * 2))
    assert {one.state for one in ended} == {"decided"}
    assert team.told(vote, "consensus.closed") == ["consensus.closed"]
    found = team.results("ada", vote)
    assert (found.winner, found.votes) == ("yes", {"yes": 7, "no": 5})


def _tried(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Conflict as error:
        return error


@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_delivery_never_matters(team: Team, data: st.DataObject) -> None:
    """Ballots, repeated and contradicting ones among them, delivered in two orders come to one outcome: that of the pure count."""
    mechanism = data.draw(st.sampled_from(Name))
    more: dict[str, Any] = {"threshold": 0.6} if mechanism == "threshold" else {}
    several = MECHANISMS[mechanism].several
    option = st.sampled_from(AUTH["options"])
    response = st.lists(option, max_size=3 if several else 1, unique=True).map(tuple)
    ballots = data.draw(st.lists(st.tuples(st.sampled_from(ALL), response), min_size=1, max_size=6))
    other_order = data.draw(st.permutations(ballots))
    outcomes = []
    for order in (ballots, other_order):
        vote = team.ask(slug=None, mechanism=mechanism, voters=list(ALL), quorum=0.5, early=False, timeout_s=3600, **more)
        for who, named in order:
            team.acknowledge(who, vote)
            _tried(lambda who=who, named=named, vote=vote: team.respond(who, vote, *named, voice=team.signs(who)))
        team.end_of_time(vote)
        outcomes.append(team.settle(vote, BEAT).outcome)
    ordered = [(who, named if MECHANISMS[mechanism].ordered else tuple(sorted(named, key=AUTH["options"].index))) for who, named in ballots]
    pure = tally(consensus.rules_of(vote), [Ballot(who, named) for who, named in ordered]).as_json()
    assert outcomes[0] == outcomes[1] == pure


def test_expertise_and_a_quorum_by_share(team: Team) -> None:
    vote = team.ask(weights={"bob": 2.5, "dan": 0.5}, quorum=0.3, mechanism="majority", base="electorate")
    assert (vote.proposal["electorate"][1], vote.proposal["quorum"]) == ({"agent": "bob", "weight": 2500}, 1)
    assert team.vote("bob", vote, "JWT").state == "decided"
    assert team.results("ada", vote).votes == {"JWT": 2.5}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"options": ["a"]}, "options: .* wants a list of 2 to 20"),
        ({"options": ["a", "a"]}, "each option once"),
        ({"options": ["a", "abstain"]}, "answers 'abstain'"),
        ({"mechanism": "dictate"}, "one of poll, majority"),
        ({"threshold": 0.7}, "it is for the mechanism threshold"),
        ({"mechanism": "threshold"}, "such as 0.7"),
        ({"quorum": "threshold"}, "quorum"),
        ({"quorum": "most"}, "quorum"),
        ({"quorum": 1.5}, "quorum"),
        ({"weights": {"eve": 2}}, "names of voters"),
        ({"weights": {"bob": 0.0001}}, "three decimals"),
        ({"weights": {"bob": float("inf")}}, "three decimals"),
        ({"voters": []}, "at least one agent"),
        ({"timeout_s": 0}, "1 to 2592000"),
        ({"question": " "}, "question"),
    ],
)
def test_what_could_not_be_voted_on_is_refused_by_its_field(team: Team, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        team.ask(**asked)
    assert team.rows("SELECT count(*) FROM consensus") == [(0,)]


def test_who_may_not_vote_is_named(team: Team) -> None:
    with team.transactions.begin("test:setup") as session:
        agents.add(session, "zoe", "observer")
    with pytest.raises(InvalidInput, match="agents whose role may vote"):
        team.ask(voters=["bob", "zoe"])
    with pytest.raises(Refused, match="zoe, of the role observer, may not take part in votes"):
        team.ask(who="zoe")
    with pytest.raises(NotFound, match="nearest: bob"):
        team.ask(voters=["bobb"])
    assert "zoe" not in [one["agent"] for one in team.ask(voters=None).proposal["electorate"]]


def test_the_same_request_again_is_the_same_vote(team: Team) -> None:
    first = team.ask(conversation_id="project-123")
    assert team.ask(conversation_id="project-123").id == first.id
    with pytest.raises(Conflict, match=r"exists in conversation project-123 already.*options.*differ"):
        team.ask(conversation_id="project-123", options=["a", "b"])
    with pytest.raises(Conflict, match="asked_by"):
        team.ask(conversation_id="project-123", who="bob")
    assert team.told(first) == ["consensus.requested"]
    assert len(team.rows("SELECT FROM messages")) == 1
    other = team.ask(conversation_id="project-456")
    with team.transactions.begin("bob") as session, pytest.raises(Conflict, match="several conversations"):
        consensus.find(session, "auth-decision")
    with team.transactions.begin("bob") as session:
        assert consensus.find(session, "auth-decision", conversation_id="project-456").id == other.id
    with team.transactions.begin("eve") as session, pytest.raises(NotFound, match="no vote 'auth-decision'"):
        consensus.find(session, "auth-decision")


def test_voters_are_told_of_the_vote_and_of_its_outcome(team: Team) -> None:
    vote = team.ask(conversation_id="project-123")
    with team.transactions.begin("bob") as session:
        [asked] = inboxes.inbox(session).messages
    assert f"options_hash='{vote.options_hash}'" in asked.content
    assert (asked.sender, asked.message_type, (asked.data or {})["slug"]) == ("ada", "task", "auth-decision")
    assert asked.content.endswith("\nWhich auth approach?")
    team.vote("bob", vote, "JWT")
    team.vote("dan", vote, "JWT")
    with team.transactions.begin("dan") as session:
        assert [one.content for one in inboxes.inbox(session).messages][1:] == ["Vote auth-decision is decided: JWT. Votes: JWT 2."]


def test_a_vote_may_demand_signatures_and_so_may_the_charter(team: Team, chartered: Callable[[str], None]) -> None:
    vote = team.ask(signed=True)
    team.acknowledge("bob", vote)
    with pytest.raises(Refused, match="demands a signature"):
        team.respond("bob", vote, "JWT")
    assert team.respond("bob", vote, "JWT", voice=team.signs("bob")).mode == "signed"
    chartered(charter_text().replace('vote = "attested"', 'vote = "signed"'))
    assert team.ask(slug="by-charter").proposal["signed"] is True
