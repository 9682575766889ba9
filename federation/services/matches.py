"""Suggests who could help whom: what one wonders and another offers, by the words that both use; asks no model.

PostgreSQL reduces words to their stems, as its text search does. A model would find more, and no part that answers within a transaction has one.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.services.cop import PulseRow

MOST = 10
# What people write about any help, and what is no subject of its own.
_COMMON_WORDS = """
    abl anybodi anyon ask avail best better can could done everybodi everyon free glad good happi help idea know knew let like look make mayb
    much need offer one pleas question see should somebodi someon someth sure take tell thing think tri use want way wonder work would
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_STEMS = text(
    """
    SELECT asked.place, array_agg(DISTINCT stem.lexeme)
    FROM unnest(CAST(:texts AS text[])) WITH ORDINALITY AS asked(said, place)
    CROSS JOIN LATERAL unnest(to_tsvector('english', asked.said)) AS stem(lexeme, positions, weights)
    GROUP BY asked.place
    """
)


@dataclass(frozen=True, slots=True)
class Match:
    """A question of one agent, and what another offers that may answer it."""

    who: Annotated[str, Field(description="Who wonders.")]
    wondering: str
    could_ask: Annotated[str, Field(description="Who offers; ask by federation_send or federation_ask.")]
    offering: str
    shared: Annotated[Sequence[str], Field(description="The stems of the words that both use: why this is suggested.")]


def found(session: Session, rows: Iterable[PulseRow], *, of: Collection[str] | None = None) -> list[Match]:
    """Return the likeliest matches among these rows of the pulse, the best first; with `of` those alone in which one of these wonders or offers."""
    listed = [row for row in rows if not row.stale]
    wonders = [(row.name, row.wondering) for row in listed if row.wondering]
    offers = [(row.name, " ".join([row.offering or "", *row.capabilities])) for row in listed if row.offering or row.capabilities]
    if not wonders or not offers:
        return []
    stems = _stems(session, [words for _, words in (*wonders, *offers)])
    asked, offered = stems[: len(wonders)], stems[len(wonders) :]
    spread = Counter(stem for each in offered for stem in each)
    told = {row.name: row.offering or ", ".join(row.capabilities) for row in listed}
    scored = []
    for (who, question), wanted in zip(wonders, asked, strict=True):
        for (other, _), has in zip(offers, offered, strict=True):
            shared = sorted(wanted & has)
            if who != other and shared and (of is None or who in of or other in of):
                # What few offer says more than what many do.
                score = sum(math.log(1 + len(offers) / spread[stem]) for stem in shared)
                scored.append((-score, who, other, Match(who, question, other, told[other], shared)))
    return [match for *_, match in sorted(scored, key=lambda one: one[:3])[:MOST]]


def _stems(session: Session, texts: Sequence[str]) -> list[set[str]]:
    # Names such as analyze_logs are two words to who asks, and so is what is written together as code is.
    found = {place: set(stems) for place, stems in session.execute(_STEMS, {"texts": [words.replace("_", " ") for words in texts]})}
    return [found.get(place, set()) - _COMMON for place in range(1, len(texts) + 1)]
