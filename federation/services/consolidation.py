"""What an agent remembers for itself, consolidated once a day: what says the same as a later memory goes, with an event that tells so.

Refuses to judge what matters: nothing is shortened, and what differs in a name, a number, a negation or a subject stays.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from federation.services import entities, memories
from federation.services.entities import Known
from federation.services.retrieval import EMBEDDING_ENGINE, FRAG
from federation.store import event_log, outbox
from federation.store.behalf import on_behalf_of
from federation.store.context import context
from federation.store.fixed_ids import fixed_id
from federation.store.models.memories import Memory

CONSOLIDATE = "federation.tasks.memories.consolidate"

# Who remembers less has room; of more than this the oldest are looked at.
WORTH_IT, AT_ONCE = 50, 1_000
# Cosines of MiniLM: the same in other words is above, and often something else too, so that this is not all that is asked.
ALIKE = 0.9
_NEGATIONS = {"no", "not", "never", "without", "none", "nobody", "nothing", "neither", "nor", "cannot", "false", "disabled", "off"}
_NOBODY = Known({})


@dataclass(frozen=True, slots=True)
class Own:
    """A private memory, as it is compared."""

    id: uuid.UUID
    content: str
    about: frozenset[str]
    message_id: uuid.UUID | None
    # Its words as PostgreSQL stems them, without those that every text has, in their order.
    lexemes: Sequence[str]


_DUE = text(
    """
    SELECT created_by FROM memories WHERE visibility = 'nobody' GROUP BY created_by HAVING count(*) > :worth_it ORDER BY created_by
    """
)
_TODAY = text("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date::text")


def request_due(session: Session) -> int:
    """Record, for each agent who remembers much for itself, the execution that consolidates it, in its name and once a day; return how many."""
    day, owners = session.scalar(_TODAY), session.scalars(_DUE, {"worth_it": WORTH_IT}).all()
    before = len(context(session).outbox)
    for owner in owners:
        with on_behalf_of(session, owner, trace_id=context(session).trace_id):
            identity = fixed_id("consolidation", owner, day)
            outbox.record(session, CONSOLIDATE, {}, requirements={"tags": [FRAG], "engine": EMBEDDING_ENGINE}, execution_id=identity, priority=2)
    return len(context(session).outbox) - before


_OWN = text(
    """
    SELECT id, content, about, message_id, ARRAY(
        SELECT lexeme FROM unnest(to_tsvector('english', content)) AS said (lexeme, places, weights), unnest(places) AS place ORDER BY place
    ) AS lexemes
    FROM memories WHERE created_by = :owner AND visibility = 'nobody'
        -- Neither a summary, which says again what others say, nor what is in one.
        AND NOT EXISTS (SELECT FROM memories other WHERE other.id = memories.summary_id OR other.summary_id = memories.id)
    ORDER BY created_at, id LIMIT :at_once
    """
)


def own(session: Session) -> list[Own]:
    """Return what the caller remembers for itself alone, the oldest first."""
    found = session.execute(_OWN, {"owner": context(session).actor, "at_once": AT_ONCE})
    return [Own(each.id, each.content, frozenset(each.about), each.message_id, each.lexemes) for each in found]


def says_all_of(later: Own, earlier: Own) -> bool:
    """Say whether the later of two that mean nearly the same has all words of the earlier one, in their order, and no other names or denials."""
    words = iter(later.lexemes)
    return (
        all(word in words for word in earlier.lexemes)
        and bool(earlier.lexemes)
        and earlier.about <= later.about
        and earlier.message_id in (None, later.message_id)
        and _telling(later.content) == _telling(earlier.content)
    )


def merge(session: Session, pairs: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> int:
    """Remove each first of these memories of the caller's, whose second says the same, if both are still there; return how many."""
    merged = 0
    for earlier, later in pairs:
        there = select(Memory.id).where(Memory.id == later, Memory.created_by == context(session).actor).with_for_update()
        if session.scalar(there) is None or session.scalar(sa.delete(Memory).where(Memory.id == earlier).returning(Memory.id)) is None:
            continue
        event_log.append(session, "memory.merged", f"memory:{earlier}", payload={"memory_id": earlier, "into": later})
        memories.request_settling(session, earlier, "forgotten")
        merged += 1
    return merged


def _telling(content: str) -> set[str]:
    """Return what of a text must not differ: names of things, words with a digit or a capital inside, numbers, and denials."""
    words = re.findall(r"[\w'.:/@-]*\w", content)
    exact = {word for word in words if re.search(r"\d|[a-z][A-Z]|[./:@_]", word) or (word.isupper() and len(word) > 1)}
    capitals = {word.lower() for word in words[1:] if word[:1].isupper()}
    denials = {word.lower() for word in words if word.lower() in _NEGATIONS or word.lower().endswith("n't")}
    return exact | capitals | denials | {each.entity for each in entities.mentions(content, _NOBODY)}
