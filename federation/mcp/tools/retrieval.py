"""Tools to index a tree of files and to search what is indexed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.mcp.door import Call
from federation.mcp.index_runs import IndexProgress, progress
from federation.mcp.tools.arguments import LONGEST_LINE, NUMBER, WaitS, folder, name, text
from federation.mcp.waits import value_of
from federation.services import retrieval
from federation.services.executions import State
from federation.services.retrieval import Hit, Kind, Language, Narrower
from federation.store.models.cop import Visibility

# A search is an execution of milliseconds, but its node may have to load the model first.
FOUND_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """The places that answer the query."""

    hits: Annotated[
        Sequence[Hit] | None, Field(description="Best first. Null: the search is late; read it with federation_task_result(execution_id).")
    ]
    execution_id: UUID
    state: State
    node: str | None
    waiting_for: Annotated[str | None, Field(description="What a node must have that none alive has; it starts when one comes.")]
    note: Annotated[str | None, Field(description="What to do next.")]


async def federation_index(
    call: Call,
    *,
    path: Annotated[
        str | None, folder("Absolute path of a folder on the node that holds the vectors (tag frag in federation_pulse).", examples=["/srv/code"])
    ] = None,
    wait_s: WaitS = 0,
    run_id: Annotated[UUID | None, Field(description="Instead of a path: look at a run that you started, or wait for it.")] = None,
    visibility: Annotated[
        Visibility | None,
        Field(
            description="Who may find it: all; members (of conversation_id); role (agents of your role); nobody (but you). "
            "Omitted, without conversation_id too: as you indexed the folder before, or else all."
        ),
    ] = None,
    conversation_id: Annotated[
        str | None, name("Only its members may find it: a conversation of yours, but not commons.", examples=["project-123"])
    ] = None,
) -> IndexProgress:
    """Make a tree of code and texts searchable for federation_search; an unchanged file costs nothing, so repeating a call is cheap.

    Whoever indexes a folder for the same readers keeps one index up to date. Who made it withdraws it by indexing the folder for others.
    Start it with a path; it returns at once with a run_id, or with `wait_s` when all is searchable by words. The embedding spreads over all
    nodes that can, in the background; federation_index(run_id=…, wait_s=60) waits for that. Give either path or run_id.
    """
    if (path is None) == (run_id is None):
        raise InvalidInput("path", path, "either a path, to index it, or a run_id, to look at a run that you started")

    def start(session: Session) -> UUID:
        return retrieval.request_index(session, path or "", visibility=visibility, conversation_id=conversation_id)

    run = await call.transact(start) if run_id is None else run_id

    def look(session: Session) -> IndexProgress | None:
        found = progress(session, run)
        return found if found.finished or (run_id is None and (found.searchable or found.waiting_for)) else None

    if wait_s > 0:
        done = await call.until(look, wait_s=wait_s, notices=[f"index:{run}"], executions=[run], waiting=f"indexing {path or run}")
        if done is not None:
            return done
    return await call.transact(lambda session: progress(session, run))


async def federation_search(
    call: Call,
    *,
    query: Annotated[
        str,
        text(
            "A question in words, or names that occur in the code: 256 tokens at most, about 150 words.",
            longest=LONGEST_LINE,
            examples=["where is a lost connection opened again"],
        ),
    ],
    limit: Annotated[int, Field(ge=1, le=50, description="At most so many places."), NUMBER] = 5,
    root: Annotated[str | None, folder("Only in this indexed folder; omitted: in all.", examples=["/srv/code"])] = None,
    path: Annotated[str | None, text("Only files whose path in the indexed folder begins so.", longest=LONGEST_LINE, examples=["src/net/"])] = None,
    language: Annotated[Language | None, Field(description="Only files in this language, by how their names end.")] = None,
    kind: Annotated[Kind | None, Field(description="Only places of this kind; a class that is short is one place, with its methods.")] = None,
    conversation_id: Annotated[
        str | None, name("Only what was indexed for the members of this conversation of yours.", examples=["project-123"])
    ] = None,
) -> Found:
    """Search what federation_index made searchable and you may see, by meaning and by words at once; returns file, lines, text and score.

    Each definition comes once. No hits: ask in other words, or index the folder first.
    """

    def ask(session: Session) -> UUID:
        narrower = Narrower(root=root, path=path, language=language, kind=kind, conversation_id=conversation_id)
        return retrieval.request_search(session, query, narrower, limit=limit)

    execution_id = await call.transact(ask)
    value, stands = await value_of(call, execution_id, wait_s=FOUND_WITHIN_S, waiting="searching")
    hits: list[dict[str, Any]] | None = value
    return Found(None if hits is None else [Hit(**hit) for hit in hits], execution_id, stands.state, stands.node, stands.waiting_for, stands.note)
