"""A proposal that could not be counted is no proposal, and says which field does not fit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.consensus.ballots import Base
from federation.consensus.proposal import TYPE, BadProposal, rules

GOOD: dict[str, Any] = {
    "type": TYPE,
    "mechanism": "threshold",
    "threshold": 0.7,
    "options": ["yes", "no"],
    "electorate": [{"agent": "ada", "weight": 2500}, {"agent": "bob", "weight": 1000}],
    "quorum": 2,
    "base": "cast",
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def test_a_proposal_gives_its_rules() -> None:
    found = rules(GOOD)
    assert (found.mechanism, found.options, found.weights, found.quorum) == ("threshold", ("yes", "no"), {"ada": 2500, "bob": 1000}, 2)
    assert (found.base, found.threshold) == (Base.CAST, 0.7)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("type", "federation.proposal/2"),
        ("mechanism", "dictate"),
        ("mechanism", "poll"),  # which has no threshold
        ("threshold", 0),
        ("threshold", True),
        ("threshold", None),
        ("threshold", 1.01),
        ("options", ["yes"]),
        ("options", ["yes", "yes"]),
        ("options", ["yes", " "]),
        ("options", ["yes", "Abstain"]),
        ("options", ["yes", "n" * 201]),
        ("options", "yesno"),
        ("electorate", []),
        ("electorate", [{"agent": "ada", "weight": 1000}] * 2),
        ("electorate", [{"agent": "ada", "weight": 0}]),
        ("electorate", [{"agent": "ada", "weight": 1.5}]),
        ("electorate", ["ada"]),
        ("quorum", 3),
        ("quorum", -1),
        ("quorum", True),
        ("base", "all"),
    ],
)
def test_what_does_not_fit_is_named(field: str, wrong: Any) -> None:
    with pytest.raises(BadProposal) as raised:
        rules(GOOD | {field: wrong})
    assert raised.value.field == ("threshold" if wrong == "poll" else field)
    assert raised.value.wants


@given(st.sampled_from(sorted(GOOD)), ANYTHING)
def test_whatever_comes_is_a_proposal_or_says_why_not(field: str, value: Any) -> None:
    try:
        rules(GOOD | {field: value})
    except BadProposal as error:
        assert error.field in GOOD  # noqa: PT017 - it may also be none
