"""A proposal: all that a vote is about, as the JSON whose hash everybody acknowledges; read back into the rules by which its ballots are counted."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from federation.consensus.ballots import ABSTAIN, Base, Rules
from federation.consensus.mechanisms import MECHANISMS

TYPE = "federation.proposal/1"
FEWEST_OPTIONS, MOST_OPTIONS, LONGEST_OPTION = 2, 20, 200
MOST_VOTERS, LARGEST_WEIGHT = 500, 1_000_000


class BadProposal(ValueError):
    """A proposal is none that could be voted on; `field` is what does not fit, the text what it wants."""

    def __init__(self, field: str, got: object, wants: str) -> None:
        self.field, self.got, self.wants = field, got, wants
        super().__init__(f"{field}: got {got!r}, wants {wants}")


def rules(proposal: Mapping[str, Any]) -> Rules:
    """Return the rules of a proposal. Raises BadProposal, also for what is no proposal at all."""
    if proposal.get("type") != TYPE:
        raise BadProposal("type", proposal.get("type"), TYPE)
    mechanism = proposal.get("mechanism")
    if not isinstance(mechanism, str) or mechanism not in MECHANISMS:
        raise BadProposal("mechanism", mechanism, "one of " + ", ".join(MECHANISMS))
    weights = _weights(proposal.get("electorate"))
    quorum, base = proposal.get("quorum"), proposal.get("base")
    if not _is_whole(quorum) or not 0 <= quorum <= len(weights):
        raise BadProposal("quorum", quorum, f"a whole number up to {len(weights)}, how many voters there are")
    if not isinstance(base, str) or base not in set(Base):
        raise BadProposal("base", base, "one of " + ", ".join(Base))
    return Rules(mechanism, _options(proposal.get("options")), weights, quorum, Base(base), _threshold(mechanism, proposal.get("threshold")))


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _options(given: Any) -> tuple[str, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not FEWEST_OPTIONS <= len(given) <= MOST_OPTIONS:
        raise BadProposal("options", given, f"a list of {FEWEST_OPTIONS} to {MOST_OPTIONS} options")
    for option in given:
        if not isinstance(option, str) or not option.strip() or len(option) > LONGEST_OPTION:
            raise BadProposal("options", option, f"texts of 1 to {LONGEST_OPTION} characters")
        if option.strip().casefold() == ABSTAIN:
            raise BadProposal("options", option, f"other options: whoever is for none answers {ABSTAIN!r}")
    if len(set(given)) < len(given):
        raise BadProposal("options", list(given), "each option once")
    return tuple(given)


def _weights(given: Any) -> dict[str, int]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not 1 <= len(given) <= MOST_VOTERS:
        raise BadProposal("electorate", given, f"1 to {MOST_VOTERS} voters")
    found: dict[str, int] = {}
    for one in given:
        name, weight = (one.get("agent"), one.get("weight")) if isinstance(one, Mapping) else (None, None)
        if not isinstance(name, str) or name in found or not _is_whole(weight) or not 1 <= weight <= LARGEST_WEIGHT:
            raise BadProposal("electorate", one, f"each voter once, with a weight of 1 to {LARGEST_WEIGHT} thousandths")
        found[name] = weight
    return found


def _threshold(mechanism: str, given: Any) -> float | None:
    if mechanism != "threshold":
        if given is not None:
            raise BadProposal("threshold", given, f"nothing: it is for the mechanism threshold, and this is {mechanism}")
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1:
        raise BadProposal("threshold", given, "a share of more than 0, up to 1, such as 0.7")
    return float(given)
