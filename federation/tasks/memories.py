"""Memories as executions on the node of the vectors: LanceDB holds their vectors and no word of them, and ranks; it shows none."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.engines import catalogue
from federation.engines.sentences import sentences_of
from federation.services import consolidation, memories, memory_summaries
from federation.services.consolidation import Own
from federation.services.memories import BY_MEANING, BY_WORDS, Ranked
from federation.services.memory_summaries import Subject
from federation.services.retrieval import EMBEDDING_ENGINE
from federation.tasks.retrieval import vectors_dir
from federation.vectors.filters import Scope
from federation.vectors.ranking import Entry, Ranking, fused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federation.vectors.table import Table

# What each ranker may name beyond what is asked for: a forgotten memory may be in LanceDB for a moment yet.
SPARE = 50
# Each compaction writes the table anew.
COMPACT_EVERY = 50
MAX_SENTENCES = 5

# One writer a table, as in `retrieval`.
_one_writer = Lock()
_changes = count()


@cache
def _vectors() -> "Table":
    directory = vectors_dir()
    from federation.vectors.table import Table  # noqa: PLC0415 - imports LanceDB

    return Table(directory, "memories", has_words=False)


@shared_task(bind=True, base=FederationTask, name=memories.SETTLE)
def settle(self: FederationTask, *, memory_id: str) -> dict[str, Any]:
    """Let LanceDB hold of a memory what PostgreSQL does: its vector, or nothing once it is forgotten, in whichever order that comes here."""
    identity = uuid.UUID(memory_id)
    with self.transaction() as session:
        kept = memories.unsettled(session, identity)
    is_kept = False
    if kept is not None:
        engine = catalogue.embedding(EMBEDDING_ENGINE)
        [vector] = engine.embed([kept.content], truncate_at=engine.window)
        _put(memory_id, kept.collection, vector)
        with self.transaction() as session:
            is_kept = memories.record_vector(session, identity, node=self.node, model=engine.name)
    with _one_writer:
        if not is_kept:
            _vectors().delete([memory_id])
        if next(_changes) % COMPACT_EVERY == 0:
            _vectors().optimize()
    return {"memory_id": memory_id, "kept": is_kept}


def _put(memory_id: str, collection: str, vector: "NDArray[np.float32]") -> None:
    from federation.vectors.table import Row  # noqa: PLC0415 - imports LanceDB

    stored = _vectors()
    with _one_writer:
        stored.upsert([Row(memory_id, memory_id, collection, "", "memory", "", vector)])


def _nearest(vector: "NDArray[np.float32]", scope: Scope, depth: int) -> Ranking:
    return _vectors().view().by_vector(vector, scope, depth)


@shared_task(bind=True, base=FederationTask, name=memories.RANK, time_limit=300)
def rank(self: FederationTask, *, query: str, about: list[str], limit: int) -> list[dict[str, Any]]:
    """Rank what the asker may see by words, in PostgreSQL, and by meaning, in LanceDB; the answer says which, and none of what they say."""
    engine = catalogue.embedding(EMBEDDING_ENGINE)
    [vector] = engine.embed([query], truncate_at=engine.window)
    depth = limit + SPARE
    with self.transaction() as session:
        worded = memories.by_words(session, query, about=about, limit=depth)
        only = [str(each) for each in memories.about_all(session, about)] if about else None
        scope = Scope(document_ids=only, collections=memories.collections(session))
    entries = [Entry(str(each.id), str(each.id), "", each.score or 0.0) for each in worded]
    words = Ranking(entries, entries[-1].score if len(entries) == depth else 0.0)
    meaning = Ranking([], 0.0) if scope.is_empty else _nearest(vector, scope, depth)
    hits = fused({BY_WORDS: (1.0, words), BY_MEANING: (1.0, meaning)})
    with self.transaction() as session:
        # LanceDB knows for which role or conversation one is, and PostgreSQL who belongs to it by now.
        seen = memories.seen(session, [uuid.UUID(hit.id) for hit in hits])
    found = [(uuid.UUID(hit.id), hit) for hit in hits]
    return [asdict(Ranked(identity, round(hit.score, 6), sorted(hit.ranks))) | {"id": hit.id} for identity, hit in found if identity in seen][:depth]


@shared_task(bind=True, base=FederationTask, name=consolidation.CONSOLIDATE)
def consolidate(self: FederationTask) -> dict[str, Any]:
    """Remove of what its asker remembers for itself what a later memory says as well, and sum up what is old of one subject."""
    with self.transaction() as session:
        own = consolidation.own(session)
    merged = _merge(self, own) if len(own) > 1 else 0
    with self.transaction() as session:
        due = memory_summaries.due(session)
    summed_up = [str(kept) for subject in due if (kept := _sum_up(self, subject)) is not None]
    return {"looked_at": len(own), "merged": merged, "summed_up": summed_up}


def _sum_up(task: FederationTask, subject: Subject) -> uuid.UUID | None:
    from federation.engines import extractive  # noqa: PLC0415 - computes with numpy, which a node without models has not

    engine = catalogue.embedding(EMBEDDING_ENGINE)
    said = [(number, sentence) for number, each in enumerate(subject.memories) for sentence in sentences_of(each.content)]
    vectors = engine.embed([sentence for _, sentence in said], truncate_at=engine.window)
    text = memory_summaries.text_of(subject, [said[index] for index in extractive.pick(vectors, limit=MAX_SENTENCES)])
    if text is None:
        return None
    with task.transaction() as session:
        return memory_summaries.record(session, subject, text)


def _merge(task: FederationTask, own: Sequence[Own]) -> int:
    engine = catalogue.embedding(EMBEDDING_ENGINE)
    vectors = engine.embed([each.content for each in own], truncate_at=engine.window)
    alike = vectors @ vectors.T
    pairs = []
    for number, earlier in enumerate(own[:-1]):
        # The latest of those that say it, because what stays must not go itself for an earlier one.
        for other in range(len(own) - 1, number, -1):
            if alike[number, other] >= consolidation.ALIKE and consolidation.says_all_of(own[other], earlier):
                pairs.append((earlier.id, own[other].id))
                break
    with task.transaction() as session:
        return consolidation.merge(session, pairs)
