"""ROUGE-1 (Lin 2004, https://aclanthology.org/W04-1013/): how many words two texts share; without stemming and stop words.

Ten lines here, because the packages for it are not kept up.
"""

import re
from collections import Counter
from dataclasses import dataclass

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Rouge1:
    """Shares of 1: of the reference's words that the text has, and their harmonic mean with the share of the text's that the reference has."""

    recall: float
    f1: float


def rouge_1(text: str, reference: str) -> Rouge1:
    """Return how much of a reference's words a text has, each counted as often as in both."""
    ours, theirs = (Counter(_WORD.findall(each.lower())) for each in (text, reference))
    shared = (ours & theirs).total()
    if not shared:
        return Rouge1(0.0, 0.0)
    recall, precision = shared / theirs.total(), shared / ours.total()
    return Rouge1(recall, 2 * recall * precision / (recall + precision))
