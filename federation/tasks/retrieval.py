"""Indexing and search as executions: a scan and the writer on the node of the vectors, embeddings spread over all that can."""

import hashlib
import time
import uuid
from collections import Counter
from dataclasses import asdict
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.engines import catalogue
from federation.errors import InvalidInput, ModelUnavailable
from federation.services import indexed_folders, indexing, retrieval
from federation.services.indexing import NewDocument, StoredChunk
from federation.services.retrieval import Hit
from federation.settings import settings
from federation.vectors import chunking
from federation.vectors.filters import Scope
from federation.vectors.scan import UNREADABLE, read_file, require_apart, require_inside, scan
from federation.vectors.sources import Skipped

if TYPE_CHECKING:
    from federation.vectors.index import VectorIndex

# Longer chunks are cut for the model, which is three times as fast so; their whole text is still found by its words.
TOKENS = 128
# Between two words of how far it is.
TELL_S = 1.0
# Files that are ranked first; if PostgreSQL shows too few of them, so many times as many.
RANKED, MORE = 50, 4


# One writer a table: LanceDB refuses an index that two make at once.
_one_writer = Lock()


def vectors_dir() -> Path:
    """Return the folder of LanceDB. Raises ModelUnavailable where that is not installed."""
    # It takes 100 MB: only the process that searches and writes may pay for it, and other nodes need not have it.
    try:
        import lancedb  # noqa: F401, PLC0415
    except ImportError as error:
        raise ModelUnavailable(f"LanceDB is not installed on this node: {error}; install it: pip install 'federation[embedding]'") from error
    return settings().vectors_dir or settings().data_dir / "vectors"


@cache
def _vectors() -> "VectorIndex":
    directory = vectors_dir()
    from federation.vectors.index import VectorIndex  # noqa: PLC0415 - as above

    return VectorIndex(directory)


@shared_task(bind=True, base=FederationTask, name=retrieval.INDEX)
def index(self: FederationTask, *, path: str, visibility: str | None = None, conversation_id: str | None = None) -> dict[str, Any]:
    """Scan a tree, record what changed, and call for the embedding of it; the run goes on in other executions."""
    for_whom = {"visibility": visibility, "conversation_id": conversation_id}
    root = require_inside(Path(path), settings().index_roots)
    require_apart(root, [settings().data_dir, settings().cache_dir], but=settings().data_dir / "demo")
    found = scan(root)
    unreadable = [refusal.path for refusal in found.skipped if refusal.reason.startswith(UNREADABLE)]
    if "." in unreadable:
        raise InvalidInput("path", str(root), f"a folder that this node may read ({found.skipped[0].reason})")
    digests = {file.path: file.sha256 for file in found.files}
    with self.transaction() as session:
        folder = indexed_folders.find(session, str(root), **for_whom)
        compared_with = folder.id if folder else None
        stale = indexing.changed(session, folder, digests)
    documents: list[NewDocument] = []
    skipped = list(found.skipped)
    tell_at = time.monotonic() + TELL_S
    for done, name in enumerate(sorted(stale)):
        if time.monotonic() >= tell_at:
            self.tell_progress(done, len(stale), "files read")
            tell_at = time.monotonic() + TELL_S
        try:
            content = read_file(root, name)
        except OSError as error:
            unreadable.append(name)
            skipped.append(Skipped(name, f"{UNREADABLE}: {error.strerror or error}"))
            continue
        chunks = chunking.chunk_file(name, content)
        if isinstance(chunks, Skipped):
            skipped.append(chunks)
            digests.pop(name)
        else:
            # The digest of what was read now: a file that changed since the walk is taken as it is and looked at again next time.
            documents.append(NewDocument(name, hashlib.sha256(content).hexdigest(), len(content), chunks))
    with self.transaction() as session:
        run = indexing.record_scan(
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
    return {**asdict(run), "run_id": str(run.run_id), "skipped": dict(Counter(refusal.reason for refusal in skipped))}


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
    """Put the staged vectors of a run into LanceDB; the same rows written twice are the same rows."""
    run = uuid.UUID(run_id)
    stored = _vectors()
    with _one_writer:
        # Read here, or a writer that was held up would bring back what another has deleted meanwhile.
        with self.transaction() as session:
            staged, gone = indexing.staged(session, run)
        stored.put((str(chunk.id), str(chunk.document_id), chunk.collection, _worded(chunk), vector) for chunk, vector in staged)
        stored.delete([str(identity) for identity in gone])
        if staged or gone:
            stored.optimize()
    with self.transaction() as session:
        view = indexing.record_written(session, run, [*(chunk.id for chunk, _ in staged), *gone])
    return {"run_id": run_id, "written": len(staged), "deleted": len(gone), "finished": view.finished}


@shared_task(bind=True, base=FederationTask, name=retrieval.SEARCH, time_limit=300)
def search(self: FederationTask, *, query: str, limit: int, root: str | None) -> list[dict[str, Any]]:
    """Answer a question with the best place of each of the best files; the text comes from PostgreSQL."""
    return [asdict(hit) for _, hit in best(self, query, limit=limit, root=root)]


def best(task: FederationTask, query: str, *, limit: int, root: str | None = None, shared_with: str | None = None) -> list[tuple[uuid.UUID, Hit]]:
    """Return the best place of each of the best files that the asker of a task may see, with its chunk's id; fewer only if there are no more.

    With a conversation, only those that all its members may see. What is not his takes no part: neither a place, nor a share in a score.
    """
    with task.transaction() as session:
        scope = Scope(collections=indexed_folders.collections(session, root=root, shared_with=shared_with))
    engine = catalogue.embedding(retrieval.EMBEDDING_ENGINE)
    vector = engine.embed([query])[0]
    stored, depth = _vectors(), max(RANKED, limit)
    while True:
        hits = stored.search(query, vector, limit=depth, scope=scope)
        with task.transaction() as session:
            found = retrieval.places(session, [(uuid.UUID(hit.id), round(hit.score, 6), sorted(hit.ranks)) for hit in hits])
        if len(found) >= limit or scope.is_empty or len(hits) >= stored.files.count(scope) or depth >= stored.chunks.count(scope):
            return found[:limit]
        depth *= MORE
