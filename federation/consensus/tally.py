"""Counts ballots: the same outcome in whatever order they come, and however often one comes."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from federation.consensus.ballots import ABSTAIN, BadBallot, Ballot, Outcome, Reason, Rules
from federation.consensus.counting import Choice, Count
from federation.consensus.mechanisms import MECHANISMS


def ordered(rules: Rules, response: Sequence[str]) -> Choice:
    """Return what a voter answered as it is counted and signed; nothing, or the one word `abstain`, is an abstention.

    Raises BadBallot for what this mechanism cannot count.
    """
    named = tuple(response)
    if named in {(), (ABSTAIN,)}:
        return ()
    mechanism = MECHANISMS[rules.mechanism]
    known = ", ".join(map(repr, rules.options))
    if unknown := [option for option in named if option not in rules.options]:
        raise BadBallot(f"one of {known}, or {ABSTAIN!r}; {unknown[0][:100]!r} is none of them")
    if len(set(named)) < len(named):
        raise BadBallot("each option once")
    if len(named) > 1 and not mechanism.several:
        raise BadBallot(f"one of {known}, or {ABSTAIN!r}: a ballot of {rules.mechanism} names one option")
    return named if mechanism.ordered else tuple(sorted(named, key=rules.options.index))


def spoken(rules: Rules, choice: Choice) -> str:
    """Return a choice in one word, another for each; of several options their places in the list, counted from 1."""
    mechanism = MECHANISMS[rules.mechanism]
    if not choice or not mechanism.several:
        return choice[0] if choice else ABSTAIN
    return (">" if mechanism.ordered else "+").join(str(rules.options.index(option) + 1) for option in choice)


def heard(rules: Rules, word: str) -> Choice:
    """Return the choice of a word that `spoken` made. Raises BadBallot for another."""
    mechanism = MECHANISMS[rules.mechanism]
    if word == ABSTAIN or not mechanism.several:
        named = [word]
    else:
        places = word.split(">" if mechanism.ordered else "+")
        named = [rules.options[int(place) - 1] for place in places if place.isdecimal() and 0 < int(place) <= len(rules.options)]
    choice = ordered(rules, named)
    if spoken(rules, choice) != word:
        raise BadBallot(f"a choice as it is signed; got {word[:100]!r}")
    return choice


def tally(rules: Rules, ballots: Iterable[Ballot]) -> Outcome:
    """Count. Of who is no voter nothing counts, nor of a voter whose ballots contradict each other."""
    valid, void = _sorted_out(rules, ballots)
    count = _count(rules, valid, void)
    mechanism = MECHANISMS[rules.mechanism]
    took_part, outstanding = len(valid), len(rules.weights) - len(valid) - len(void)
    best = mechanism.winner(count)
    winner = best if took_part >= rules.quorum else None
    within_reach = any(mechanism.possibly(count, option) for option in count.options)
    reason = None if winner is not None else Reason.NO_QUORUM if within_reach and took_part < rules.quorum else Reason.NOT_REACHED
    sure = winner is not None and mechanism.surely(count, winner)
    return Outcome(
        winner=winner,
        reason=reason,
        votes={option: weight for option, weight in count.votes.items() if weight},
        tied=_tied(count, winner) if not mechanism.ordered else (),
        took_part=took_part,
        abstained=sum(not ballot.choice for ballot in valid.values()),
        outstanding=outstanding,
        void=void,
        rounds=tuple(mechanism.rounds(count)),
        confidence=_confidence(rules, valid, winner),
        fixed=not outstanding or sure or not within_reach or took_part + outstanding < rules.quorum,
    )


def _sorted_out(rules: Rules, ballots: Iterable[Ballot]) -> tuple[dict[str, Ballot], tuple[str, ...]]:
    """Return the one ballot of each voter, and who has contradicted himself."""
    found: dict[str, list[Ballot]] = {}
    for ballot in ballots:
        if ballot.voter in rules.weights:
            found.setdefault(ballot.voter, []).append(ballot)
    void = {voter for voter, theirs in found.items() if len({one.choice for one in theirs}) > 1}
    # Who says the same twice and is sure of it in two ways is as sure as the lesser of them, whichever came first.
    valid = {voter: min(theirs, key=_sureness) for voter, theirs in sorted(found.items()) if voter not in void}
    return valid, tuple(sorted(void))


def _sureness(ballot: Ballot) -> tuple[bool, float]:
    return ballot.confidence is not None, ballot.confidence or 0.0


def _count(rules: Rules, valid: Mapping[str, Ballot], void: Sequence[str]) -> Count:
    choosing = [(ballot.choice, rules.weights[voter]) for voter, ballot in valid.items() if ballot.choice]
    ranks = MECHANISMS[rules.mechanism].ordered
    votes = dict.fromkeys(rules.options, 0)
    for choice, weight in choosing:
        for option in choice[:1] if ranks else choice:
            votes[option] += weight
    electorate = sum(rules.weights.values())
    return Count(
        options=rules.options,
        ballots=choosing,
        votes=votes,
        cast=sum(weight for _, weight in choosing),
        electorate=electorate,
        outstanding=electorate - sum(rules.weights[voter] for voter in (*valid, *void)),
        base=rules.base,
        threshold=None if rules.threshold is None else Fraction(repr(rules.threshold)),
    )


def _tied(count: Count, winner: str | None) -> tuple[str, ...]:
    return tuple(option for option in count.options if winner is not None and option != winner and count.votes[option] == count.votes[winner])


def _confidence(rules: Rules, valid: Mapping[str, Ballot], winner: str | None) -> float | None:
    """Return how sure those are who are for the winner, weighed; exactly, and then rounded."""
    theirs = ((rules.weights[voter], ballot.confidence) for voter, ballot in valid.items() if winner in ballot.choice)
    sure = [(weight, Fraction(repr(confidence))) for weight, confidence in theirs if confidence is not None]
    total = sum(weight for weight, _ in sure)
    return float(round(sum((weight * confidence for weight, confidence in sure), Fraction(0)) / total, 3)) if total else None
