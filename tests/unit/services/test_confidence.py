"""How sure several are together is what the function of the coordination patterns says, as it stands there."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.services.confidence import Judgement, aggregated


@dataclass
class Finding:
    """What the patterns' function asks of a finding."""

    agent: str
    category: str
    confidence: float
    evidence: list[str]


# Letter by letter.
SHOWN = '''
def aggregate_confidence(findings: list[Finding]) -> float:
    """
    Aggregate confidence from multiple agent findings.
    Uses weighted average based on agent expertise and evidence strength.
    """
    if not findings:
        return 0.0

    weighted_sum = 0.0
    weight_total = 0.0

    for finding in findings:
        # Weight by agent expertise in this domain
        expertise_weight = get_agent_expertise(finding.agent, finding.category)

        # Weight by evidence strength
        evidence_weight = len(finding.evidence) * 0.1 + 0.5

        weight = expertise_weight * evidence_weight
        weighted_sum += finding.confidence * weight
        weight_total += weight

    return weighted_sum / weight_total if weight_total > 0 else 0.0
'''
NAMES, CATEGORIES = ("ops/deploy-validator", "ops/rollback-advisor"), ("observation", "hypothesis", "conclusion")
FINDINGS = st.builds(
    Finding,
    agent=st.sampled_from(NAMES),
    category=st.sampled_from(CATEGORIES),
    confidence=st.floats(0, 1),
    evidence=st.lists(st.just("x"), max_size=5),
)
EXPERTISE = st.fixed_dictionaries({(name, category): st.floats(0, 1000) for name in NAMES for category in CATEGORIES})


@given(found=st.lists(FINDINGS, max_size=8), expertise=EXPERTISE)
def test_it_is_what_the_patterns_function_says(found: list[Finding], expertise: dict[tuple[str, str], float]) -> None:
    names = {"Finding": Finding, "get_agent_expertise": lambda agent, category: expertise[agent, category]}
    exec(SHOWN, names)
    shown = names["aggregate_confidence"](found)
    judgements = [Judgement(each.agent, each.category, each.confidence, len(each.evidence)) for each in found]
    assert aggregated(judgements, lambda agent, category: expertise[agent, category]) == shown


def test_weights_are_those_of_the_formula() -> None:
    judgements = [Judgement("ada", "hypothesis", 0.7, 0), Judgement("bob", "conclusion", 1.0, 5)]
    assert aggregated(judgements, lambda agent, category: 1.0) == pytest.approx((0.7 * 0.5 + 1.0 * 1.0) / 1.5)
    assert aggregated(judgements, lambda agent, category: {"ada": 4.0, "bob": 1.0}[agent]) == pytest.approx((0.7 * 2 + 1.0) / 3)
    assert aggregated([], lambda agent, category: 1.0) == 0.0
    assert aggregated(judgements, lambda agent, category: 0.0) == 0.0
