"""The indexer's bookkeeping: what changed in a tree, what is to be found by its words, which batches are to be embedded, and when a run is done."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import Conflict, NotFound, TransientError
from federation.services import indexed_documents, indexed_folders
from federation.services.indexed_documents import NewDocument
from federation.services.retrieval import COMPACT, EMBED, EMBEDDING_ENGINE, FRAG, WRITE, RunView
from federation.store import event_log, outbox
from federation.store.context import context, notify
from federation.store.fixed_ids import fixed_id
from federation.store.models.cop import Visibility
from federation.store.models.executions import Execution
from federation.store.models.nodes import Node
from federation.store.models.retrieval import Chunk, Document, IndexBatch, IndexedFolder, IndexRun, VectorChange

BATCH = 128
# Of so many batches the vectors are written at once.
WRITE_EVERY = 8
# Files that are recorded at once: their chunks have to fit into memory.
DOCUMENTS = 256


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as it is recorded; lines count from 1."""

    id: uuid.UUID
    document_id: uuid.UUID
    collection: str
    path: str
    kind: str
    title: str
    start_line: int
    end_line: int
    text: str
    content_hash: str


def changed(session: Session, folder: IndexedFolder | None, digests: Mapping[str, str]) -> set[str]:
    """Return the paths whose digest differs from what is in an index; None: there is none yet."""
    known: dict[str, str] = {}
    if folder is not None:
        query = select(Document.path, Document.sha256).where(Document.folder_id == folder.id)
        known = {row.path: row.sha256 for row in session.execute(query)}
    return {path for path, digest in digests.items() if known.get(path) != digest}


def record_scan(
    session: Session,
    run_id: uuid.UUID,
    root: str,
    *,
    paths: Iterable[str],
    documents: Sequence[NewDocument],
    skipped: Sequence[dict[str, str]],
    unreadable: Sequence[str] = (),
    visibility: str | None = None,
    conversation_id: str | None = None,
    compared_with: uuid.UUID | None = None,
) -> RunView:
    """Record what a scan found: changed documents with their chunks, and deletions; then comes `unsearchable`.

    What lies at or below an unreadable path is kept as it is: it may still be there. What the caller indexed of the folder for others goes.
    `compared_with` is the index of which the documents are the changes. Raises TransientError if that is withdrawn,
    Conflict if the caller has asked for other readers since, and as `indexed_folders.take`.
    """
    indexed_folders.turn(session, root)
    if session.get(IndexRun, run_id) is not None:
        return progress(session, run_id)
    folder = indexed_folders.take(session, root, visibility, conversation_id)
    if compared_with not in {None, folder.id}:
        raise TransientError(f"who had indexed {root} for these readers has withdrawn it meanwhile; index it again, and all of it is read")
    present = set(paths)
    row = {"id": run_id, "folder_id": folder.id, "root": root, "files": len(present), "changed_files": len(documents), "skipped": list(skipped)}
    counted_later = {"deleted_files": 0, "chunks": 0, "batches": 0}
    # One statement, because a scan may be delivered twice at once.
    made = insert(IndexRun).values(**row, **counted_later, created_by=context(session).actor).on_conflict_do_nothing().returning(IndexRun)
    run = session.scalars(made).one_or_none()
    if run is None:
        return progress(session, run_id)
    absent = session.execute(
        select(Document.id, Document.path).where(Document.folder_id == folder.id, Document.path != sa.all_(_array(sorted(present), sa.Text())))
    )
    hidden = tuple(f"{path}/" for path in unreadable)
    gone = [(identity, path) for identity, path in absent if path not in unreadable and not path.startswith(hidden)]
    for start in range(0, len(documents), DOCUMENTS):
        _drop_chunks(session, run_id, indexed_documents.record(session, folder.id, run_id, documents[start : start + DOCUMENTS]))
    for identity, _ in gone:
        _drop_chunks(session, run_id, list(session.scalars(select(Chunk.id).where(Chunk.document_id == identity))))
        session.execute(sa.delete(Document).where(Document.id == identity))
    # What an earlier run left is taken up too, deletions and chunks without a vector: so a killed run goes on with the next.
    withdrawn = indexed_folders.others_of_mine(session, folder)
    _require_last_word(session, run)
    former = select(IndexRun.id).where(IndexRun.folder_id.in_([folder.id, *(each.id for each in withdrawn)]), IndexRun.id != run_id)
    session.execute(sa.update(VectorChange).where(VectorChange.run_id.in_(former), VectorChange.vector.is_(None)).values(run_id=run_id))
    for each in withdrawn:
        _withdraw(session, run_id, each)
    run.deleted_files, run.chunks = len(gone), _count_pending(session, folder.id)
    run.batches = -(-run.chunks // BATCH)
    session.flush()
    counts = {"files": run.files, "changed": len(documents), "deleted": len(gone), "chunks": run.chunks, "batches": run.batches}
    payload = {**indexed_folders.told(folder), **counts, "withdrawn": [[each.visibility, each.audience] for each in withdrawn]}
    event_log.append(session, "index.scanned", f"index:{run_id}", payload=payload)
    return progress(session, run_id)


# As text, because the tables of the result backend belong to a package of its own.
_ON_THEIR_WAY = text(
    """
    WITH called AS MATERIALIZED (
        SELECT b.execution_id, b.run_id, b.chunk_ids FROM index_batches b
        WHERE b.finished_at IS NULL AND b.run_id IN (SELECT id FROM index_runs WHERE folder_id = :folder_id)
    ), ended AS MATERIALIZED (
        SELECT id FROM executions
        WHERE id IN (SELECT execution_id FROM called) AND (cancelled_at IS NOT NULL OR outcome IS NOT NULL)
        UNION ALL
        SELECT CAST(task_id AS uuid) FROM celery_results
        WHERE task_id IN (SELECT execution_id::text FROM called) AND state IN ('FAILURE', 'REVOKED')
        UNION ALL
        SELECT execution_id FROM quarantine WHERE execution_id IN (SELECT execution_id FROM called)
    ), going AS MATERIALIZED (
        SELECT run_id FROM called WHERE execution_id IN (SELECT id FROM executions) AND execution_id NOT IN (SELECT id FROM ended)
    )
    SELECT CAST(jsonb_array_elements_text(chunk_ids) AS uuid) FROM called
    WHERE run_id IN (SELECT run_id FROM going) AND execution_id NOT IN (SELECT id FROM ended)
    """
)


def _pending(session: Session, folder_id: uuid.UUID) -> list[uuid.UUID]:
    """Return the chunks of an index that have no vector, and get none from a batch that is called for."""
    elsewhere = _embedded_elsewhere(session, folder_id)
    found = session.scalars(_unembedded(Chunk.id, folder_id).order_by(Document.path, Chunk.start_line))
    # Here and not in the query: under the policies of the tables PostgreSQL would look through what is staged anew for each chunk.
    return [identity for identity in found if identity not in elsewhere]


def _count_pending(session: Session, folder_id: uuid.UUID) -> int:
    """Return how many `_pending` has, which need not be sorted for that."""
    counted = _unembedded(func.count(), folder_id)
    elsewhere = counted.where(Chunk.id == sa.any_(_array(list(_embedded_elsewhere(session, folder_id)), sa.Uuid())))
    pending: int = session.execute(counted).scalar_one() - session.execute(elsewhere).scalar_one()
    return pending


def _unembedded(what: Any, folder_id: uuid.UUID) -> sa.Select[Any]:
    return select(what).select_from(Chunk).join(Document).where(Document.folder_id == folder_id, Chunk.vector_at.is_(None))


def _embedded_elsewhere(session: Session, folder_id: uuid.UUID) -> set[uuid.UUID]:
    """Return the chunks of an index that are in a batch that is called for, or have a vector that is staged."""
    of_index = select(IndexRun.id).where(IndexRun.folder_id == folder_id)
    staged = select(VectorChange.chunk_id).where(VectorChange.run_id.in_(of_index), VectorChange.vector.is_not(None))
    return {*session.scalars(_ON_THEIR_WAY, {"folder_id": folder_id}), *session.scalars(staged)}


@dataclass(frozen=True, slots=True)
class UnsearchableChunk:
    """A chunk that is not found by its words yet; `recorded_by` is the run that has its document as it is."""

    id: uuid.UUID
    document_id: uuid.UUID
    recorded_by: uuid.UUID
    collection: str
    path: str
    kind: str
    content_hash: str


def unsearchable(session: Session, run_id: uuid.UUID, *, after: uuid.UUID | None = None) -> list[UnsearchableChunk]:
    """Return the chunks of the next DOCUMENTS documents of the index of a run that are not found by their words yet, document by document.

    The next after a document, or the first. A document comes with all its chunks.
    """
    folder_id = session.get_one(IndexRun, run_id).folder_id
    has_some = select(Chunk.id).where(Chunk.document_id == Document.id).exists()
    waiting = select(Document.id).where(Document.folder_id == folder_id, Document.words_at.is_(None), has_some)
    if after is not None:
        waiting = waiting.where(Document.id > after)
    query = (
        select(Chunk.id, Document.id, Document.run_id, indexed_folders.COLLECTION, Document.path, Chunk.kind, Chunk.content_hash)
        .join(Document, Document.id == Chunk.document_id)
        .join(IndexedFolder, IndexedFolder.id == Document.folder_id)
        .where(Document.id == sa.any_(_array(list(session.scalars(waiting.order_by(Document.id).limit(DOCUMENTS))), sa.Uuid())))
    )
    return [UnsearchableChunk(*row) for row in session.execute(query.order_by(Document.id, Chunk.start_line))]


def stored(session: Session, chunk_ids: Sequence[uuid.UUID]) -> list[StoredChunk]:
    """Return chunks as they are recorded, those that are still there."""
    return [StoredChunk(*row) for row in session.execute(_stored().where(Chunk.id == sa.any_(_array(chunk_ids, sa.Uuid()))))]


def record_words(session: Session, run_id: uuid.UUID, chunks: Sequence[UnsearchableChunk]) -> None:
    """Record that documents, with all their chunks, are found by their words; one that was recorded anew meanwhile is not."""
    event_log.append(session, "index.worded", f"index:{run_id}", payload={"chunks": len(chunks)})
    by_run: dict[uuid.UUID, set[uuid.UUID]] = {}
    for chunk in chunks:
        by_run.setdefault(chunk.recorded_by, set()).add(chunk.document_id)
    for recorded_by, documents in by_run.items():
        as_read = (Document.id == sa.any_(_array(sorted(documents), sa.Uuid())), Document.run_id == recorded_by)
        _update_all(session, sa.update(Document).where(*as_read).values(words_at=func.clock_timestamp()))


def record_searchable(session: Session, run_id: uuid.UUID, gone: Sequence[uuid.UUID] = ()) -> RunView:
    """Record that all of a tree is found by its words, and that chunks have left LanceDB; then comes `call_for_vectors`."""
    run = session.scalars(select(IndexRun).where(IndexRun.id == run_id).with_for_update()).one()
    session.execute(sa.delete(VectorChange).where(VectorChange.chunk_id == sa.any_(_array(gone, sa.Uuid())), VectorChange.vector.is_(None)))
    if run.searchable_at is None:
        run.searchable_at = session.execute(select(func.clock_timestamp())).scalar_one()
        event_log.append(session, "index.searchable", f"index:{run_id}", payload={"batches": run.batches})
        session.flush()
    notify(session, [f"index:{run_id}"])
    return progress(session, run_id)


def call_for_vectors(session: Session, run_id: uuid.UUID) -> RunView:
    """Call for the vectors of what has none, in a tree that is searchable; the run is done if that is nothing. The same again changes nothing."""
    run = session.scalars(select(IndexRun).where(IndexRun.id == run_id).with_for_update()).one()
    if session.scalar(select(IndexBatch.run_id).where(IndexBatch.run_id == run_id).limit(1)) is None and run.finished_at is None:
        pending = _pending(session, run.folder_id)
        batches = [pending[start : start + BATCH] for start in range(0, len(pending), BATCH)]
        event_log.append(session, "index.batched", f"index:{run_id}", payload={"batches": len(batches)})
        for number, chunk_ids in enumerate(batches):
            identity = fixed_id("embed", run_id, number)
            session.add(IndexBatch(execution_id=identity, run_id=run_id, chunk_ids=[str(chunk) for chunk in chunk_ids]))
        session.flush()
        for number in range(min(_at_once(session), len(batches))):
            _call_for(session, run_id, number)
        if not batches:
            _finish(session, run_id)
    notify(session, [f"index:{run_id}"])
    return progress(session, run_id)


def _batches_of(run_id: uuid.UUID) -> sa.Select[uuid.UUID]:
    return select(IndexBatch.execution_id).where(IndexBatch.run_id == run_id)


def _at_once(session: Session) -> int:
    """Return how many batches of a run are on their way at a time: one for each node that can embed, which takes all its cores for it."""
    able = select(func.count()).select_from(Node).where(Node.engines.contains([EMBEDDING_ENGINE]), Node.left_at.is_(None), Node.lost_at.is_(None))
    return max(1, session.scalar(able) or 0)


def _call_for(session: Session, run_id: uuid.UUID, number: int) -> None:
    """Record the execution of the batch with this number, if there is one; the same twice is one."""
    identity = fixed_id("embed", run_id, number)
    if session.get(IndexBatch, identity) is not None:
        outbox.record(session, EMBED, {"run_id": str(run_id)}, requirements={"engine": EMBEDDING_ENGINE}, execution_id=identity, priority=1)


def _require_last_word(session: Session, run: IndexRun) -> None:
    """Pass unless the caller asked to index the folder for others after it asked for this run: one that comes late publishes nothing."""
    asked_at = select(Execution.created_at).where(Execution.id == run.id).scalar_subquery()
    later = select(Execution.id).join(IndexRun, IndexRun.id == Execution.id)
    later = later.where(IndexRun.root == run.root, IndexRun.created_by == run.created_by, IndexRun.folder_id != run.folder_id)
    if session.scalar(later.where(Execution.created_at > asked_at).limit(1)) is not None:
        raise Conflict(f"{run.created_by} has asked to index {run.root} for others since; index it again if it shall be for these")


def _withdraw(session: Session, run_id: uuid.UUID, folder: IndexedFolder) -> None:
    """Remove an index with all that is in it."""
    _drop_chunks(session, run_id, list(session.scalars(select(Chunk.id).join(Document).where(Document.folder_id == folder.id))))
    session.execute(sa.delete(Document).where(Document.folder_id == folder.id))
    session.execute(sa.delete(IndexedFolder).where(IndexedFolder.id == folder.id))


def _drop_chunks(session: Session, run_id: uuid.UUID, chunk_ids: Sequence[uuid.UUID]) -> None:
    if not chunk_ids:
        return
    _stage(session, [{"chunk_id": identity, "run_id": run_id, "vector": None, "model": None} for identity in chunk_ids])
    _update_all(session, sa.delete(Chunk).where(Chunk.id == sa.any_(_array(chunk_ids, sa.Uuid()))))


def _update_all(session: Session, statement: sa.Executable) -> None:
    """Change or remove thousands of rows, of which the session has loaded none: else it would have PostgreSQL name each."""
    session.execute(statement, execution_options={"synchronize_session": False})


def _stage(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    statement = insert(VectorChange)
    columns = ("run_id", "model", "vector", "updated_by")
    session.execute(
        statement.on_conflict_do_update(index_elements=["chunk_id"], set_={name: statement.excluded[name] for name in columns}), list(rows)
    )


def batch(session: Session, execution_id: uuid.UUID) -> list[StoredChunk]:
    """Return the chunks that an execution is to embed; those that went away meanwhile, or that another run has embedded, are left out."""
    found = session.get(IndexBatch, execution_id)
    if found is None:
        raise NotFound("batch", str(execution_id))
    wanted = sa.any_(_array([uuid.UUID(chunk) for chunk in found.chunk_ids], sa.Uuid()))
    staged = set(session.scalars(select(VectorChange.chunk_id).where(VectorChange.chunk_id == wanted, VectorChange.vector.is_not(None))))
    query = _stored().where(Chunk.id == wanted, Chunk.vector_at.is_(None)).order_by(Document.path, Chunk.start_line)
    return [chunk for row in session.execute(query) if (chunk := StoredChunk(*row)).id not in staged]


def _stored() -> sa.Select[uuid.UUID, uuid.UUID, str, str, str, str, int, int, str, str]:
    return (
        select(
            Chunk.id,
            Document.id,
            indexed_folders.COLLECTION,
            Document.path,
            Chunk.kind,
            Chunk.title,
            Chunk.start_line,
            Chunk.end_line,
            Chunk.text,
            Chunk.content_hash,
        )
        .join(Document, Document.id == Chunk.document_id)
        .join(IndexedFolder, IndexedFolder.id == Document.folder_id)
    )


def record_vectors(session: Session, execution_id: uuid.UUID, *, node: str, model: str, vectors: Mapping[uuid.UUID, bytes]) -> None:
    """Stage a batch's vectors (float32, little-endian) for the writer; the last batch of a run calls the writer."""
    found = session.get_one(IndexBatch, execution_id)
    # The lock makes «am I the last?» a question that only one batch at a time asks.
    session.execute(select(IndexRun.id).where(IndexRun.id == found.run_id).with_for_update())
    session.refresh(found)
    if found.finished_at is not None:
        return
    alive = set(session.scalars(select(Chunk.id).where(Chunk.id.in_(vectors))))
    rows = [
        {"chunk_id": identity, "run_id": found.run_id, "model": model, "vector": vector} for identity, vector in vectors.items() if identity in alive
    ]
    if rows:
        _stage(session, rows)
    found.node = node
    found.finished_at = session.execute(select(func.clock_timestamp())).scalar_one()
    session.flush()
    event_log.append(session, "index.embedded", f"index:{found.run_id}", payload={"node": node, "chunks": len(rows), "model": model})
    notify(session, [f"index:{found.run_id}"])
    counted = func.count().filter(IndexBatch.finished_at.is_not(None)), func.count()
    done, batches = session.execute(select(*counted).where(IndexBatch.run_id == found.run_id)).one()
    # Each that ends calls for one that is not yet called for.
    called = session.scalar(select(func.count()).select_from(Execution).where(Execution.id.in_(_batches_of(found.run_id)))) or 0
    _call_for(session, found.run_id, called)
    if done == batches or done % WRITE_EVERY == 0:
        identity = fixed_id("write", found.run_id, done)
        outbox.record(session, WRITE, {"run_id": str(found.run_id)}, requirements={"tags": [FRAG]}, execution_id=identity, priority=6)


def gone(session: Session, run_id: uuid.UUID) -> list[uuid.UUID]:
    """Return the ids of chunks that are to leave LanceDB, as far as runs over the same index, or this run, have left them."""
    return list(session.scalars(select(VectorChange.chunk_id).where(_of_index(session, run_id), VectorChange.vector.is_(None))))


def staged(session: Session, run_id: uuid.UUID) -> list[tuple[StoredChunk, bytes]]:
    """Return the vectors that the writer is to put into LanceDB, with their chunks: whatever runs over the same index have staged."""
    query = _stored().add_columns(VectorChange.vector).join(VectorChange, VectorChange.chunk_id == Chunk.id)
    rows = session.execute(query.where(_of_index(session, run_id), VectorChange.vector.is_not(None)))
    return [(StoredChunk(*row[:-1]), row[-1]) for row in rows]


def _of_index(session: Session, run_id: uuid.UUID) -> sa.ColumnElement[bool]:
    folder_id = session.get_one(IndexRun, run_id).folder_id
    return VectorChange.run_id.in_(select(IndexRun.id).where(IndexRun.folder_id == folder_id))


def record_written(session: Session, run_id: uuid.UUID, chunk_ids: Sequence[uuid.UUID]) -> RunView:
    """Record that chunks are found by their meaning; the run is done if that was the last of it."""
    written = _array(chunk_ids, sa.Uuid())
    _update_all(session, sa.update(Chunk).where(Chunk.id == sa.any_(written)).values(vector_at=func.clock_timestamp()))
    _update_all(session, sa.delete(VectorChange).where(VectorChange.chunk_id == sa.any_(written)))
    if chunk_ids:
        event_log.append(session, "index.written", f"index:{run_id}", payload={"chunks": len(chunk_ids)})
    unfinished = select(IndexBatch.run_id).where(IndexBatch.run_id == run_id, IndexBatch.finished_at.is_(None)).limit(1)
    unwritten = select(VectorChange.chunk_id).where(_of_index(session, run_id), VectorChange.vector.is_not(None)).limit(1)
    # The last batch may have ended while this was written: then it has called the writer once more.
    if session.scalar(unfinished) is None and session.scalar(unwritten) is None:
        _finish(session, run_id)
    notify(session, [f"index:{run_id}"])
    return progress(session, run_id)


def _finish(session: Session, run_id: uuid.UUID) -> None:
    done = session.scalar(
        sa.update(IndexRun)
        .where(IndexRun.id == run_id, IndexRun.finished_at.is_(None))
        .values(finished_at=func.clock_timestamp(), searchable_at=func.coalesce(IndexRun.searchable_at, func.clock_timestamp()))
        .returning(IndexRun.id)
    )
    if done is not None:
        event_log.append(session, "index.finished", f"index:{run_id}", payload={})


def request_compaction(session: Session, *, every: timedelta) -> uuid.UUID | None:
    """Have LanceDB compacted if something was indexed in the last two periods; the same period asks once, whoever asks."""
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    recent = sa.or_(IndexRun.created_at > now - 2 * every, IndexRun.finished_at > now - 2 * every)
    if session.scalar(select(IndexRun.id).where(recent).limit(1)) is None:
        return None
    identity = fixed_id("compact", int(now.timestamp() // every.total_seconds()))
    return outbox.record(session, COMPACT, {}, requirements={"tags": [FRAG]}, execution_id=identity, priority=1)


def _array(values: Sequence[object], kind: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
    # One parameter, however many values: a statement may have 65,535 of them.
    return sa.literal(list(values), sa.ARRAY(kind))


def executions_of(session: Session, run_id: uuid.UUID) -> list[uuid.UUID]:
    """Return the ids of the executions that embed and write for a run."""
    embeddings = list(session.scalars(select(IndexBatch.execution_id).where(IndexBatch.run_id == run_id)))
    writes = [count for count in range(1, len(embeddings) + 1) if count == len(embeddings) or count % WRITE_EVERY == 0]
    return [*embeddings, *(fixed_id("write", run_id, count) for count in writes)]


def progress(session: Session, run_id: uuid.UUID) -> RunView:
    """Return how far a run is. Raises NotFound before its scan is recorded."""
    run = session.get(IndexRun, run_id, populate_existing=True)
    if run is None:
        raise NotFound("index run", str(run_id))
    done = session.scalar(select(func.count()).where(IndexBatch.run_id == run_id, IndexBatch.finished_at.is_not(None))) or 0
    counts = (run.files, run.changed_files, run.deleted_files, run.chunks, run.batches, done)
    visibility = session.scalar(select(IndexedFolder.visibility).where(IndexedFolder.id == run.folder_id))
    searchable, finished = (at is not None for at in (run.searchable_at, run.finished_at))
    return RunView(run_id, run.root, *counts, run.skipped, searchable, finished, Visibility(visibility) if visibility else None)
