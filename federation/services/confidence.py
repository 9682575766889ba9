"""How sure several agents are of one thing together: the weighted average of the coordination patterns, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Judgement:
    """How sure somebody is, in a finding of which kind, and on how many pieces of evidence that rests."""

    agent: str
    category: str
    confidence: float
    evidence: int


def aggregated(judgements: Sequence[Judgement], expertise_of: Callable[[str, str], float]) -> float:
    """Return how sure they are together, 0 to 1; 0 for none. Each weighs expertise × (0.5 + 0.1 × evidence), as the patterns have it."""
    weighted_sum = 0.0
    weight_total = 0.0
    for each in judgements:
        weight = expertise_of(each.agent, each.category) * (each.evidence * 0.1 + 0.5)
        weighted_sum += each.confidence * weight
        weight_total += weight
    return weighted_sum / weight_total if weight_total > 0 else 0.0
