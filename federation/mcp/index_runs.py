"""How far a run of the indexer is: scanned by one execution, embedded by many, finished when all is found by meaning."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.errors import NotFound
from federation.mcp.waits import ExecutionFailed, given_up, standing, value
from federation.services import executions, indexing, outcomes
from federation.services.retrieval import INDEX
from federation.store.models.cop import Visibility
from federation.store.models.executions import Execution

# Of what was skipped so much is told; a large tree skips thousands of files.
LISTED: Final = 20


class RunState(StrEnum):
    """How far a run of the indexer is: its scan is recorded, waits, runs or is done, then words are indexed, pieces embedded, vectors written."""

    SCAN_RECORDED = "scan recorded"
    SCAN_UNPLACED = "scan unplaced"
    SCAN_QUEUED = "scan queued"
    SCAN_RUNNING = "scan running"
    SCAN_COMPLETED = "scan completed"
    WORDS = "indexing words"
    EMBEDDING = "embedding"
    WRITING = "writing"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class SkippedPath:
    """A file or folder that is not indexed."""

    path: Annotated[str, Field(description="From the indexed folder on; `.` is that folder itself.")]
    reason: str


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far a run is."""

    run_id: UUID
    path: str
    visibility: Annotated[Visibility | None, Field(description="Who may see it; null: not known before the scan is recorded, or withdrawn since.")]
    state: RunState
    searchable: Annotated[bool, Field(description="All is found by its words.")]
    finished: Annotated[bool, Field(description="All is found by its meaning, too.")]
    files: int
    changed_files: int
    deleted_files: int
    chunks: Annotated[int, Field(description="Pieces of files that are new and get a vector.")]
    batches: int
    batches_done: int
    waiting_for: Annotated[str | None, Field(description="What a node must have that none alive has; the run goes on when one comes.")]
    note: Annotated[str | None, Field(description="What to do next, or how far it is.")]
    skipped_count: Annotated[int, Field(description="Files and folders that were not indexed; of a folder that is left out whole, only itself.")] = 0
    skipped: Annotated[Sequence[SkippedPath], Field(description=f"The first {LISTED} of these, and why.")] = ()


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
    try:
        run = indexing.progress(session, run_id)
    except NotFound:
        # Not scanned yet: there is nothing to count.
        stands = standing(session, run_id)
        if ended := outcomes.ended(session, run_id) or given_up(stands):
            value(ended)
        scan = RunState(f"scan {stands.state}")
        return IndexProgress(run_id, str(execution.kwargs["path"]), None, scan, False, False, 0, 0, 0, 0, 0, 0, stands.waiting_for, stands.note)
    parts = () if run.finished else [run_id, *indexing.executions_of(session, run_id)]
    broken = outcomes.first_failure(session, parts)
    if broken is not None:
        raise ExecutionFailed(f"{broken.error}; index the folder again to go on where it stopped")
    if run.finished:
        state = RunState.FINISHED
    elif not run.searchable:
        state = RunState.WORDS
    else:
        state = RunState.EMBEDDING if run.batches_done < run.batches else RunState.WRITING
    numbers = (run.files, run.changed_files, run.deleted_files, run.chunks, run.batches, run.batches_done)
    note = None if run.finished else f"{run.batches_done} of {run.batches} batches embedded"
    skipped = [SkippedPath(each["path"], each["reason"]) for each in run.skipped[:LISTED]]
    about = (executions.waiting_for(session, parts), note, len(run.skipped), skipped)
    return IndexProgress(run_id, run.root, run.visibility, state, run.searchable, run.finished, *numbers, *about)
