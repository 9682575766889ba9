"""Indexing and search as executions: a scan and the writer on the node of the vectors, embeddings spread over all that can."""

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.engines import catalogue
from federation.engines.contracts import FEW
from federation.errors import InvalidInput, ModelUnavailable
from federation.services import indexed_folders, indexing, retrieval
from federation.services.indexed_documents import NewDocument
from federation.services.indexing import StoredChunk, UnsearchableChunk
from federation.services.retrieval import Hit, RunView
from federation.settings import settings
from federation.tasks.wording import Worded, WordsAhead, worded
from federation.vectors import chunking
from federation.vectors.cutting import Cut, cut_all
from federation.vectors.filters import Scope
from federation.vectors.languages import SUFFIXES
from federation.vectors.scan import UNREADABLE, require_apart, require_inside, scan
from federation.vectors.snippets import Question

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federation.vectors.index import Key, VectorIndex

# Longer chunks are cut for the model, which is three times as fast so; their whole text is still found by its words.
TOKENS = 128
# Between two words of how far it is.
TELL_S = 1.0
# Places that are ranked first; if PostgreSQL shows too few of them, so many times as many.
RANKED, MORE = 50, 4


def vectors_dir() -> Path:
    """Return the folder of LanceDB. Raises ModelUnavailable where that, or what compares vectors, is not installed."""
    # It takes 100 MB: only the process that searches and writes may pay for it, and other nodes need not have it.
    try:
        import lancedb  # noqa: F401, PLC0415
        import numkong  # noqa: F401, PLC0415
    except ImportError as error:
        raise ModelUnavailable(f"this node cannot hold vectors: {error}; install what it needs: pip install 'federation[embedding]'") from error
    return settings().vectors_dir or settings().data_dir / "vectors"


@cache
def _vectors() -> "VectorIndex":
    directory = vectors_dir()
    from federation.vectors.freeing import collect_seldom, share_arenas  # noqa: PLC0415 - as above
    from federation.vectors.index import VectorIndex  # noqa: PLC0415 - as above

    share_arenas()
    collect_seldom()
    return VectorIndex(directory)


@shared_task(bind=True, base=FederationTask, name=retrieval.INDEX)
def index(self: FederationTask, *, path: str, visibility: str | None = None, conversation_id: str | None = None) -> dict[str, Any]:
    """Scan a tree, record what changed, let it be found by its words, and call for the embedding of it; that goes on in other executions."""
    for_whom = {"visibility": visibility, "conversation_id": conversation_id}
    root = require_inside(Path(path), settings().index_roots)
    require_apart(root, [settings().data_dir, settings().cache_dir], but=settings().data_dir / "demo")
    with self.transaction() as session:
        known = indexed_folders.find(session, str(root), **for_whom) is not None
    # What was in a folder that is indexed is gone with it; else its path is a mistake.
    found = scan(root, may_be_gone=known)
    unreadable = [refusal.path for refusal in found.skipped if refusal.reason.startswith(UNREADABLE)]
    if "." in unreadable:
        raise InvalidInput("path", str(root), f"a folder that this node may read ({found.skipped[0].reason})")
    digests = {file.path: chunking.digest(file.sha256) for file in found.files}
    with self.transaction() as session:
        folder = indexed_folders.find(session, str(root), **for_whom)
        compared_with = folder.id if folder else None
        stale = indexing.changed(session, folder, digests)
    # What takes seconds to import is there when the files are cut, which other processes do.
    ready = _ready_for_words() if stale else None
    documents: list[NewDocument] = []
    skipped = list(found.skipped)
    tell_at = time.monotonic() + TELL_S
    with WordsAhead() as ahead:
        for done, cut in enumerate(cut_all(root, sorted(stale))):
            if time.monotonic() >= tell_at:
                self.tell_progress(done, len(stale), "files read")
                tell_at = time.monotonic() + TELL_S
            if isinstance(cut, Cut):
                ahead.add(cut.chunks)
                # The digest of what was read now: a file that changed since the walk is taken as it is and looked at again next time.
                documents.append(NewDocument(cut.path, chunking.digest(cut.sha256), cut.size, cut.chunks))
                continue
            skipped.append(cut)
            if cut.reason.startswith(UNREADABLE):
                unreadable.append(cut.path)
            else:
                digests.pop(cut.path)
        with self.transaction() as session:
            indexing.record_scan(
                session,
                self.execution_id,
                str(root),
                paths=digests,
                unreadable=unreadable,
                documents=documents,
                skipped=[asdict(refusal) for refusal in skipped],
                compared_with=compared_with,
                **for_whom,
            )
        del documents
        if ready is not None:
            ready.result()
        run = _make_searchable(self, ahead)
    _give_back()
    return {**asdict(run), "run_id": str(run.run_id), "skipped": dict(Counter(refusal.reason for refusal in skipped))}


def _ready_for_words() -> Future[Any]:
    """Begin to load what writes words; the result waits for that, and raises what it raises."""

    def load() -> None:
        _vectors()
        catalogue.embedding(retrieval.STATIC_ENGINE).embed(["word"])

    ahead = ThreadPoolExecutor(1, thread_name_prefix="ready")
    ready = ahead.submit(load)
    ahead.shutdown(wait=False)
    return ready


def _make_searchable(task: FederationTask, ahead: WordsAhead) -> RunView:
    """Put the words of what is new in the index of a run into LanceDB, take out what is gone, and call for the embedding of the rest."""
    run_id = task.execution_id
    told = _put_words(task, run_id, ahead)
    with task.transaction() as session:
        gone = indexing.gone(session, run_id)
    if gone or told:
        stored = _vectors()
        with stored.writing():
            stored.delete([str(identity) for identity in gone])
            stored.words.optimize()
    with task.transaction() as session:
        if not indexing.record_searchable(session, run_id, gone).chunks:
            # Whoever waits for a tree of which all is embedded is told so, and not that it is about to be.
            indexing.call_for_vectors(session, run_id)
    # Who waits for the tree searches it meanwhile: what has no index yet is read through.
    if gone or told:
        with stored.writing():
            stored.documents.optimize()
    with task.transaction() as session:
        return indexing.call_for_vectors(session, run_id)


def _give_back() -> None:
    from federation.vectors.freeing import give_back  # noqa: PLC0415 - imports Arrow

    give_back()


def _put_words(task: FederationTask, run_id: uuid.UUID, ahead: WordsAhead) -> int:
    """Write the words of all chunks of an index that are not found by them yet; return of how many."""
    told = 0

    def read(after: UnsearchableChunk | None = None) -> tuple[Sequence[UnsearchableChunk], Sequence[StoredChunk]]:
        with task.transaction() as session:
            chunks = indexing.unsearchable(session, run_id, after=None if after is None else after.document_id)
            # What another run has left.
            left = [chunk.id for chunk in chunks if chunk.content_hash not in ahead]
            return chunks, indexing.stored(session, left) if left else []

    with task.transaction() as session:
        if not indexing.unsearchable(session, run_id):
            return told
    stored = _vectors()
    # Read under the lock, or a writer that was held up would bring back what another has deleted meanwhile. What comes next is put together while
    # LanceDB and PostgreSQL have what came before.
    with stored.writing(), ThreadPoolExecutor(1, thread_name_prefix="next") as following:
        chunks, left = read()
        ready = following.submit(_words_of, chunks, left, ahead)
        while chunks:
            keys, words = ready.result()
            written, (chunks, left) = chunks, read(chunks[-1])
            ready = following.submit(_words_of, chunks, left, ahead)
            stored.put_words(keys, words.texts, words.vectors)
            with task.transaction() as session:
                indexing.record_words(session, run_id, written)
            told += len(written)
            task.tell_progress(told, told, "pieces searchable")
    return told


def _words_of(chunks: Sequence[UnsearchableChunk], left: Sequence[StoredChunk], ahead: WordsAhead) -> "tuple[list[Key], Worded]":
    """Return what was made ahead, and make the words of what was left; a chunk that is gone by now is left out."""
    import numpy as np  # noqa: PLC0415 - a node without vectors has none

    late = worded(map(_worded, left))
    found = {chunk.id: each for chunk, each in zip(left, zip(late.texts, late.vectors, strict=True), strict=True)}
    found |= {chunk.id: ahead.of(chunk.content_hash) for chunk in chunks if chunk.content_hash in ahead}
    there = [chunk for chunk in chunks if chunk.id in found]
    texts, vectors = [found[chunk.id][0] for chunk in there], [found[chunk.id][1] for chunk in there]
    return [_key(chunk) for chunk in there], Worded(texts, np.stack(vectors) if vectors else late.vectors)


def _key(chunk: StoredChunk | UnsearchableChunk) -> "Key":
    from federation.vectors.index import Key  # noqa: PLC0415 - imports LanceDB

    return Key(str(chunk.id), str(chunk.document_id), chunk.collection, chunk.path, chunk.kind)


def _worded(chunk: StoredChunk) -> chunking.Chunk:
    return chunking.Chunk(chunk.path, chunk.kind, chunk.title, chunk.start_line, chunk.end_line, chunk.text, chunk.content_hash)


@shared_task(bind=True, base=FederationTask, name=retrieval.EMBED)
def embed(self: FederationTask, *, run_id: str) -> dict[str, Any]:
    """Embed one batch of chunks and stage the vectors for the writer."""
    with self.transaction() as session:
        chunks = indexing.batch(session, self.execution_id)
    engine = catalogue.embedding(retrieval.EMBEDDING_ENGINE)
    vectors = engine.embed([_worded(chunk).embeddable for chunk in chunks], truncate_at=TOKENS)
    staged = {chunk.id: vector.astype("<f4").tobytes() for chunk, vector in zip(chunks, vectors, strict=True)}
    with self.transaction() as session:
        indexing.record_vectors(session, self.execution_id, node=self.node, model=engine.name, vectors=staged)
    return {"run_id": run_id, "node": self.node, "chunks": len(staged)}


@shared_task(bind=True, base=FederationTask, name=retrieval.WRITE)
def write(self: FederationTask, *, run_id: str) -> dict[str, Any]:
    """Put the vectors that are staged for the index of a run into LanceDB; the same rows written twice are the same rows."""
    run = uuid.UUID(run_id)
    stored = _vectors()
    with stored.writing():
        # Read here, as above.
        with self.transaction() as session:
            staged = indexing.staged(session, run)
        if staged:
            stored.put_meanings([_key(chunk) for chunk, _ in staged], [vector for _, vector in staged])
        with self.transaction() as session:
            view = indexing.record_written(session, run, [chunk.id for chunk, _ in staged])
        if staged and view.finished:
            stored.meanings.optimize()
    return {"run_id": run_id, "written": len(staged), "finished": view.finished}


@shared_task(bind=True, base=FederationTask, name=retrieval.COMPACT)
def compact(self: FederationTask) -> dict[str, Any]:
    """Compact the tables of LanceDB, and index what is new in them."""
    stored = _vectors()
    with stored.writing():
        stored.optimize()
    return {"words": stored.words.count(), "meanings": stored.meanings.count()}


@shared_task(bind=True, base=FederationTask, name=retrieval.SEARCH, time_limit=300)
def search(
    self: FederationTask,
    *,
    query: str,
    limit: int,
    root: str | None = None,
    path: str | None = None,
    language: str | None = None,
    kind: str | None = None,
    conversation_id: str | None = None,
) -> list[dict[str, Any]]:
    """Answer a question with the best places; the text comes from PostgreSQL."""
    with self.transaction() as session:
        seen = indexed_folders.collections(session, root=root, made_for=conversation_id)
    scope = Scope(collections=seen, kinds=[kind] if kind else None, path_prefix=path, suffixes=SUFFIXES[language] if language else None)
    question = Question(query)
    return [asdict(_explained(hit, question)) for _, hit in best(self, query, scope, limit=limit)]


def _explained(hit: Hit, question: Question) -> Hit:
    words, line = question.why(hit.path, hit.title, hit.text)
    return replace(hit, words=words, line=None if line is None else hit.start_line + line)


def best(task: FederationTask, query: str, scope: Scope, *, limit: int) -> list[tuple[uuid.UUID, Hit]]:
    """Return the best places of a scope that the asker of a task may see, each with its chunk's id; fewer only if there are no more.

    The scope names the indexes, so that what the asker may not see takes no part: neither a place, nor a share in a score.
    """
    if scope.is_empty:
        return []
    stored, depth = _vectors(), max(RANKED, limit)
    while True:
        hits = stored.search(query, static_vectors, meanings, limit=depth, scope=scope)
        with task.transaction() as session:
            ranked = [(uuid.UUID(hit.id), round(hit.score, 6), sorted(hit.ranks)) for hit in hits]
            found = retrieval.places(session, ranked, limit=limit)
        if len(found) == limit or len(hits) < depth or depth >= stored.words.count(scope):
            return found
        depth *= MORE


def static_vectors(texts: Sequence[str]) -> "NDArray[np.float32]":
    """Return the static vectors of questions, which come as `query_text` has them."""
    return catalogue.embedding(retrieval.STATIC_ENGINE).embed(texts)


def meanings(texts: Sequence[str]) -> "NDArray[np.float32]":
    """Return the model's vectors of questions, which wait for no tree that is embedded meanwhile."""
    import numpy as np  # noqa: PLC0415 - a node without vectors has none

    engine = catalogue.embedding(retrieval.EMBEDDING_ENGINE)
    return np.concatenate([engine.embed(texts[start : start + FEW]) for start in range(0, len(texts), FEW)])
