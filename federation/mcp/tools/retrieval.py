"""Tools to index a tree of files and to search what is indexed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.index_runs import IndexProgress, progress
from federation.mcp.tools.arguments import WaitS
from federation.mcp.waits import value_of
from federation.services import retrieval
from federation.services.retrieval import Hit

# A search is an execution of milliseconds, but its node may have to load the model first.
FOUND_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """The places that answer the query, best first; `hits` is null when the search is late: then ask federation_task_result(execution_id)."""

    hits: Sequence[Hit] | None
    execution_id: UUID
    state: str
    node: str | None
    waiting_for: str | None
    note: str | None


async def federation_index(
    call: Call,
    path: Annotated[str | None, Field(description="Absolute path of a folder on the node that holds the vectors (tag frag).")] = None,
    wait_s: WaitS = 0,
    run_id: Annotated[UUID | None, Field(description="Instead of a path: look at a run that you started, or wait for it.")] = None,
) -> IndexProgress:
    """Make a tree of code and texts searchable for federation_search; an unchanged file costs nothing.

    The work spreads over all nodes that can embed. Returns at once with a run_id, or with `wait_s` when all is searchable.
    """
    started = None if run_id else await call.transact(lambda session: retrieval.request_index(session, path or ""))
    run = run_id or started
    assert run is not None

    def look(session: Session) -> IndexProgress | None:
        found = progress(session, run)
        return found if found.finished else None

    if wait_s > 0:
        done = await call.until(look, wait_s=wait_s, notices=[f"index:{run}"], executions=[run], waiting=f"indexing {path or run}")
        if done is not None:
            return done
    return await call.transact(lambda session: progress(session, run))


async def federation_search(
    call: Call,
    query: Annotated[str, Field(description="A question in words, or names that occur in the code.")],
    limit: Annotated[int, Field(ge=1, le=50, description="At most so many places.")] = 5,
    root: Annotated[str | None, Field(description="Only in this indexed folder; omitted: in all.")] = None,
) -> Found:
    """Search what federation_index made searchable, by meaning and by words at once; returns file, lines, text and score of each place."""
    execution_id = await call.transact(lambda session: retrieval.request_search(session, query, limit=limit, root=root))
    value, stands = await value_of(call, execution_id, wait_s=FOUND_WITHIN_S, waiting="searching")
    hits: list[dict[str, Any]] | None = value
    return Found(None if hits is None else [Hit(**hit) for hit in hits], execution_id, stands.state, stands.node, stands.waiting_for, stands.note)
