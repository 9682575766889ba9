"""Each mechanism counts right, in whatever order ballots come; what is called fixed nothing changes any more."""

import itertools
import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from federation.consensus.ballots import ABSTAIN, WHOLE, BadBallot, Ballot, Base, Reason, Rules
from federation.consensus.mechanisms import MECHANISMS, Name
from federation.consensus.tally import heard, ordered, spoken, tally

OPTIONS = ("a", "b", "c")
SINGLE = [name for name, each in MECHANISMS.items() if not each.several]


def rules(mechanism: str, voters: int | Sequence[int] = 3, *, options: Sequence[str] = OPTIONS, quorum: int = 0, **more: object) -> Rules:
    """Return rules for so many voters of the same weight, or with these weights."""
    weights = [WHOLE] * voters if isinstance(voters, int) else voters
    threshold = {"threshold": 0.7} if mechanism == "threshold" else {}
    named = {f"v{number}": weight for number, weight in enumerate(weights)}
    return Rules(mechanism, tuple(options), named, quorum, **threshold | more)  # type: ignore[arg-type]


def cast(*choices: str | Iterable[str]) -> list[Ballot]:
    """Return a ballot for each: of one option, several, or none for an abstention."""
    return [Ballot(f"v{number}", (one,) if isinstance(one, str) and one else tuple(one)) for number, one in enumerate(choices)]


@st.composite
def elections(draw: st.DrawFn, *, contradictions: bool = True) -> tuple[Rules, list[Ballot]]:
    """Return rules and ballots of some of the voters; some ballots come twice, some contradict each other, some are of no voter."""
    mechanism = draw(st.sampled_from(sorted(MECHANISMS)))
    options = OPTIONS[: draw(st.integers(2, 3))]
    weights = draw(st.lists(st.sampled_from([1, 333, 1000, 1000, 1000, 2500]), min_size=1, max_size=6))
    made = rules(mechanism, weights, options=options, quorum=draw(st.integers(0, len(weights))), base=draw(st.sampled_from(Base)))
    if mechanism == "threshold":
        made = rules(
            mechanism, weights, options=options, quorum=made.quorum, base=made.base, threshold=draw(st.sampled_from([0.1, 0.5, 2 / 3, 0.7, 1.0]))
        )
    voters = st.sampled_from([*made.weights, *(["nobody"] if contradictions else [])])
    sureness = st.none() | st.sampled_from([0.0, 0.1, 0.85, 0.9, 1.0])
    ballots = draw(st.lists(st.builds(Ballot, voters, st.sampled_from(choices(made)), sureness), max_size=9))
    return made, ballots if contradictions else list({ballot.voter: ballot for ballot in ballots}.values())


def choices(made: Rules) -> list[tuple[str, ...]]:
    """Return all that a ballot may say."""
    mechanism = MECHANISMS[made.mechanism]
    sizes = range(len(made.options) + 1) if mechanism.several else (0, 1)
    pick = itertools.permutations if mechanism.ordered else itertools.combinations
    return [each for size in sizes for each in pick(made.options, size)]


@given(elections(), st.randoms(use_true_random=False))
def test_the_order_of_ballots_and_their_coming_again_change_nothing(election: tuple[Rules, list[Ballot]], chance: random.Random) -> None:
    made, ballots = election
    again = [*ballots, *chance.choices(ballots, k=3)] if ballots else []
    chance.shuffle(again)
    assert tally(made, again) == tally(made, ballots)


@given(elections(contradictions=False))
def test_what_is_called_fixed_nothing_changes_any_more(election: tuple[Rules, list[Ballot]]) -> None:
    made, ballots = election
    now = tally(made, ballots)
    assume(now.fixed)
    out = [voter for voter in made.weights if voter not in {ballot.voter for ballot in ballots}]
    assume(len(choices(made)) ** len(out) <= 300)
    for rest in itertools.product([None, *choices(made)], repeat=len(out)):
        later = [Ballot(voter, choice) for voter, choice in zip(out, rest, strict=True) if choice is not None]
        assert tally(made, [*ballots, *later]).winner == now.winner


@given(elections(contradictions=False))
def test_what_can_change_no_more_is_called_fixed(election: tuple[Rules, list[Ballot]]) -> None:
    """Only a runoff may go on although it is clear who wins, because to know that one would have to try all."""
    made, ballots = election
    assume(not MECHANISMS[made.mechanism].ordered)
    out = [voter for voter in made.weights if voter not in {ballot.voter for ballot in ballots}]
    assume(len(choices(made)) ** len(out) <= 150)
    ends = {
        tally(made, [*ballots, *(Ballot(voter, choice) for voter, choice in zip(out, rest, strict=True) if choice is not None)]).winner
        for rest in itertools.product([None, *choices(made)], repeat=len(out))
    }
    now = tally(made, ballots)
    if len(ends) == 1 and None not in ends:
        assert now.fixed
    if now.fixed:
        assert ends == {now.winner}


@given(elections())
def test_counts_add_up(election: tuple[Rules, list[Ballot]]) -> None:
    made, ballots = election
    found = tally(made, ballots)
    assert found.took_part + found.outstanding + len(found.void) == len(made.weights)
    assert (found.winner is None) == (found.reason is not None)
    assert found.winner is None or (found.votes[found.winner] > 0 and found.took_part >= made.quorum)
    assert set(found.votes) <= set(made.options)
    if found.winner is not None and not MECHANISMS[made.mechanism].ordered:
        assert found.votes[found.winner] == max(found.votes.values())
        assert all(found.votes[other] == found.votes[found.winner] for other in found.tied)


@given(elections(contradictions=False))
def test_whatever_the_names_of_the_voters_are(election: tuple[Rules, list[Ballot]]) -> None:
    made, ballots = election
    names = dict(zip(made.weights, reversed([f"x{number}" for number in range(len(made.weights))]), strict=True))
    renamed = Rules(
        made.mechanism, made.options, {names[name]: weight for name, weight in made.weights.items()}, made.quorum, made.base, made.threshold
    )
    assert tally(renamed, [Ballot(names[one.voter], one.choice, one.confidence) for one in ballots]) == tally(made, ballots)


# What was voted, and who wins by each mechanism, all voters present; None: nobody.
CASES = [
    (("a", "a", "b"), {"poll": "a", "majority": "a", "supermajority": "a", "unanimous": None, "threshold": None}),
    (("a", "a", "b", "c"), {"poll": "a", "majority": None, "supermajority": None, "unanimous": None, "threshold": None}),
    (("a", "b", "c"), {"poll": "a", "majority": None, "supermajority": None, "unanimous": None, "threshold": None}),
    (("c", "b", "b", "c"), {"poll": "b", "majority": None, "supermajority": None, "unanimous": None, "threshold": None}),
    (("b", "b", "b", "a"), {"poll": "b", "majority": "b", "supermajority": "b", "unanimous": None, "threshold": "b"}),
    (("b", "b", ""), {"poll": "b", "majority": "b", "supermajority": "b", "unanimous": "b", "threshold": "b"}),
    (("", "", ""), dict.fromkeys(SINGLE)),
    ((), dict.fromkeys(SINGLE)),
]


@pytest.mark.parametrize(("voted", "winners"), CASES)
def test_who_wins_by_each_mechanism(voted: tuple[str, ...], winners: dict[str, str | None]) -> None:
    assert winners.keys() == set(SINGLE)
    assert {name: tally(rules(name, max(len(voted), 1)), cast(*voted)).winner for name in winners} == winners


@pytest.mark.parametrize(
    ("mechanism", "winner"), [("poll", "a"), ("majority", None), ("supermajority", None), ("unanimous", None), ("threshold", None)]
)
def test_a_share_of_the_electorate_counts_who_stayed_away(mechanism: str, winner: str | None) -> None:
    made = rules(mechanism, 5, base=Base.ELECTORATE)
    assert tally(made, cast("a", "a", "")).winner == winner


def test_n_half_and_one() -> None:
    """Of four, two are not enough and three are; that two cannot become three is known as soon as it is so."""
    made = rules("majority", 4, options=("approve", "reject"), base=Base.ELECTORATE, quorum=3)
    assert tally(made, cast("approve", "approve", "reject", "reject")).winner is None
    three = tally(made, cast("approve", "approve", "approve"))
    assert (three.winner, three.fixed) == ("approve", True)
    assert not tally(made, cast("approve", "approve")).fixed
    lost = tally(made, cast("approve", "", "reject", ""))
    assert (lost.winner, lost.reason) == (None, Reason.NOT_REACHED)


def test_the_rollback_of_the_patterns_document() -> None:
    made = rules("majority", 3, options=("yes", "no"), quorum=2)
    found = tally(made, [Ballot("v0", ("yes",), 0.9), Ballot("v1", ("yes",), 0.85), Ballot("v2", ())])
    assert (found.winner, found.votes, found.abstained, found.confidence) == ("yes", {"yes": 2 * WHOLE}, 1, 0.875)


def test_the_poll_of_the_whitepaper() -> None:
    found = tally(rules("poll", 3, options=("OAuth2", "JWT", "Custom")), cast("OAuth2", "JWT", "OAuth2"))
    assert (found.winner, found.votes) == ("OAuth2", {"OAuth2": 2 * WHOLE, "JWT": WHOLE})


def test_a_tie_goes_to_who_was_listed_first_and_is_told() -> None:
    found = tally(rules("poll", 4), cast("c", "b", "c", "b"))
    assert (found.winner, found.tied) == ("b", ("c",))


def test_too_few_decide_nothing() -> None:
    made = rules("poll", 5, quorum=3)
    found = tally(made, cast("a", "a"))
    assert (found.winner, found.reason, found.fixed) == (None, Reason.NO_QUORUM, False)
    assert tally(made, cast("a", "a", "")).winner == "a"


def test_expertise_weighs() -> None:
    made = rules("majority", [2500, 1000, 1000], base=Base.ELECTORATE)
    found = tally(made, cast("b", "a", "a"))
    assert (found.winner, found.votes) == ("b", {"a": 2000, "b": 2500})


def test_a_share_is_exact_where_floats_are_not() -> None:
    """0.7 of ten is seven: as doubles it would be a little more."""
    made = rules("threshold", 10, threshold=0.7)
    assert tally(made, cast(*"aaaaaaabbb")).winner == "a"
    assert tally(rules("threshold", 10, threshold=0.71), cast(*"aaaaaaabbb")).winner is None
    tenths = rules("poll", [100] * 3 + [300], options=("a", "b"))
    assert tally(tenths, cast("b", "b", "b", "a")).tied == ("b",)


def test_approval_counts_all_that_are_named() -> None:
    made = rules("approval", 3)
    found = tally(made, cast(("a", "b"), "b", ("b", "c")))
    assert (found.winner, found.votes) == ("b", {"a": 1000, "b": 3000, "c": 1000})


def test_runoff_in_rounds() -> None:
    made = rules("ranked", 9)
    found = tally(made, cast(*[tuple("abc")] * 4, *[tuple("bca")] * 3, *[tuple("cba")] * 2))
    assert found.winner == "b"
    assert found.rounds == ({"a": 4000, "b": 3000, "c": 2000}, {"a": 4000, "b": 5000})
    # Who named none that is left counts no more.
    spent = tally(rules("ranked", 5), cast(("a", "b"), ("a", "b"), "b", "b", "c"))
    assert (spent.winner, spent.rounds[-1]) == ("a", {"a": 2000})
    assert tally(made, []).winner is None


def test_who_contradicts_himself_counts_for_nothing_and_is_named() -> None:
    made = rules("poll", 3, quorum=3)
    both = [Ballot("v0", ("a",)), Ballot("v0", ("b",))]
    found = tally(made, [*both, Ballot("v1", ("a",)), Ballot("v2", ("a",))])
    assert (found.void, found.took_part, found.outstanding) == (("v0",), 2, 0)
    assert (found.winner, found.reason, found.fixed) == (None, Reason.NO_QUORUM, True)


def test_ballots_of_strangers_are_not_counted() -> None:
    assert tally(rules("poll", 1), [Ballot("eve", ("a",))]).votes == {}


@pytest.mark.parametrize("name", Name)
def test_what_a_ballot_may_say(name: str) -> None:
    made = rules(name)
    assert ordered(made, [ABSTAIN]) == ordered(made, []) == ()
    for wrong in (["d"], ["a", "a"], ["a", ABSTAIN], [""]):
        with pytest.raises(BadBallot):
            ordered(made, wrong)
    several = ("c", "a")
    if MECHANISMS[name].several:
        assert ordered(made, several) == (several if MECHANISMS[name].ordered else ("a", "c"))
    else:
        with pytest.raises(BadBallot, match="names one option"):
            ordered(made, several)


@pytest.mark.parametrize("name", Name)
def test_each_choice_has_a_word_of_its_own(name: str) -> None:
    made = rules(name)
    told = [spoken(made, choice) for choice in choices(made)]
    assert len(set(told)) == len(told)
    assert spoken(made, ()) == ABSTAIN
    assert [heard(made, word) for word in told] == choices(made)
    for wrong in ("", "d", "0", "4", "1>1", "3+1", "1+", "a>b", "１"):
        with pytest.raises(BadBallot):
            heard(made, wrong)


def test_each_mechanism_is_in_the_list_by_its_name() -> None:
    assert MECHANISMS.keys() == set(Name)
