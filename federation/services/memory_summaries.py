"""Old private memories of one subject, summarised in one that cites them, for the one whose they are; they stay, and are found as before.

Refuses to write a word of its own, to touch what is for others, and to keep in a summary what was forgotten.
"""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from federation.services import memories
from federation.settings import settings
from federation.store import event_log
from federation.store.context import context
from federation.store.models.cop import Visibility
from federation.store.models.memories import Memory

# Fewer are read as soon as their summary; of more the oldest come first, and the others next time.
FEWEST, MOST = 8, 40
# Of more than this the oldest are looked at.
AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Old:
    """A private memory that is in no summary."""

    id: uuid.UUID
    content: str
    about: Sequence[str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Subject:
    """Old memories about one subject, the oldest first."""

    name: str
    memories: Sequence[Old]


def due(session: Session) -> list[Subject]:
    """Return what the caller remembers for itself alone since long and in no summary, by subject; each memory with the subject of most."""
    if not settings().memory_summary_days:
        return []
    before = context(session).now() - timedelta(days=settings().memory_summary_days)
    cited = aliased(Memory)
    is_summary = select(cited.id).where(cited.summary_id == Memory.id).exists()
    query = select(Memory.id, Memory.content, Memory.about, Memory.created_at).where(*_own(session), Memory.summary_id.is_(None), ~is_summary)
    rows = session.execute(query.where(Memory.created_at < before).order_by(Memory.created_at, Memory.id).limit(AT_ONCE))
    left = [Old(*row) for row in rows]
    found: list[Subject] = []
    while True:
        counted = Counter(subject for each in left for subject in each.about)
        # Of equals the first by name, so that the same comes of it whoever looks.
        name, count = min(counted.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
        if count < FEWEST:
            return found
        group = [each for each in left if name in each.about][:MOST]
        taken = {each.id for each in group}
        left = [each for each in left if each.id not in taken]
        found.append(Subject(name, group))


def text_of(subject: Subject, sentences: Sequence[tuple[int, str]]) -> str | None:
    """Return the summary: which memories, and sentences of them with the number of each among `cites`; None where none fits."""
    first, last = (f"{each.created_at:%Y-%m-%d}" for each in (subject.memories[0], subject.memories[-1]))
    head = f"From {len(subject.memories)} memories about {subject.name}, {first} to {last}:"
    said = head
    for number, sentence in sentences:
        line = f"\n- {sentence} [{number + 1}]"
        if len(said) + len(line) <= memories.LONGEST:
            said += line
    return None if said == head else said


def record(session: Session, subject: Subject, content: str) -> uuid.UUID | None:
    """Keep the summary of these memories for their author alone; None where one of them is gone or in another summary by now."""
    ids = [each.id for each in subject.memories]
    free = select(Memory.id).where(*_own(session), Memory.id.in_(ids), Memory.summary_id.is_(None)).with_for_update()
    if len(session.scalars(free).all()) < len(ids):
        return None
    kept = memories.keep(session, content, about=[subject.name])
    if kept.new:
        session.execute(sa.update(Memory).where(Memory.id.in_(ids)).values(summary_id=kept.memory_id))
        event_log.append(session, "memory.summarised", f"memory:{kept.memory_id}", payload={"memory_id": kept.memory_id, "of": sorted(map(str, ids))})
    return kept.memory_id if kept.new else None


def _own(session: Session) -> tuple[sa.ColumnElement[bool], ...]:
    return Memory.created_by == context(session).actor, Memory.visibility == Visibility.NOBODY
