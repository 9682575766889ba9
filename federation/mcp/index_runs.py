"""How far a run of the indexer is: scanned by one execution, embedded by many, finished when all is searchable."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from federation.errors import NotFound
from federation.mcp.waits import ExecutionFailed, given_up, standing
from federation.services import indexing, outcomes
from federation.services.retrieval import INDEX
from federation.store.models.executions import Execution


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far a run is; `state` is finished, writing, embedding, or where its scan stands."""

    run_id: UUID
    path: str
    state: str
    finished: bool
    files: int
    changed_files: int
    deleted_files: int
    chunks: int
    batches: int
    batches_done: int
    waiting_for: str | None
    note: str | None


def is_run(execution: Execution) -> bool:
    """Return whether an execution is the scan of a run."""
    return execution.task_name == INDEX


def progress(session: Session, run_id: UUID) -> IndexProgress:
    """Return how far the caller's run is.

    Raises NotFound for another's, ExecutionFailed where the scan broke.
    """
    execution = outcomes.require_asker(session, run_id)
    if not is_run(execution):
        raise NotFound("run of the indexer", str(run_id))
    ended = outcomes.ended(session, run_id) or given_up(session, run_id)
    if ended is not None and not ended.succeeded:
        raise ExecutionFailed(ended.error or f"execution {run_id} failed")
    path = str(execution.kwargs["path"])
    stands = standing(session, run_id)
    try:
        run = indexing.progress(session, run_id)
    except NotFound:
        # Not scanned yet: there is nothing to count.
        return IndexProgress(run_id, path, f"scan {stands.state}", False, 0, 0, 0, 0, 0, 0, stands.waiting_for, stands.note)
    broken = None if run.finished else outcomes.first_failure(session, indexing.executions_of(session, run_id))
    if broken is not None:
        raise ExecutionFailed(f"{broken.error}; index the folder again to go on where it stopped")
    state = "finished" if run.finished else "embedding" if run.batches_done < run.batches else "writing"
    numbers = (run.files, run.changed_files, run.deleted_files, run.chunks, run.batches, run.batches_done)
    note = None if run.finished else f"{run.batches_done} of {run.batches} batches embedded"
    return IndexProgress(run_id, run.root, state, run.finished, *numbers, None, note)
