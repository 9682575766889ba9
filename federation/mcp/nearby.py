"""A search that the worker of the vectors ranks at once, where it runs on the door's machine; loads no model, and shows what PostgreSQL does."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from federation.delivery import ranker
from federation.delivery.ranker import Question
from federation.mcp.door import Call
from federation.services import retrieval
from federation.services.retrieval import Hit, Narrower
from federation.vectors.snippets import why


@dataclass(frozen=True, slots=True)
class Answer:
    """The places that were found, and the node that ranked them."""

    hits: list[Hit]
    node: str | None


async def search(call: Call, query: str, narrower: Narrower, *, limit: int) -> Answer | UUID:
    """Return the best places, or the id of the execution that finds them, where nobody near ranks.

    Raises as `retrieval.require_search`.
    """
    near = ranker.socket_of(call.settings)
    if not near.exists():
        return await call.transact(lambda session: retrieval.request_search(session, query, narrower, limit=limit))
    # In its asker's name, so that what it may not see takes no part: neither a place, nor a share in a score.
    seen = await call.transact(lambda session: retrieval.require_search(session, query, narrower, limit=limit))
    if not seen:
        return Answer([], None)
    depth = max(retrieval.RANKED, limit)
    while True:
        found = await ranker.ask(near, Question(query, depth, seen, narrower.path, narrower.language, narrower.kind))
        if found is None:
            return await call.transact(lambda session: retrieval.record_search(session, query, narrower, limit=limit))
        ranked = [(UUID(identity), score, rankers) for identity, score, rankers in found.chunks]

        def show(session: Session, ranked: Sequence[tuple[UUID, float, Sequence[str]]] = ranked) -> list[Hit]:
            return [retrieval.explained(hit, *why(query, hit.path, hit.title, hit.text)) for hit in retrieval.show(session, ranked)[:limit]]

        hits = await call.transact(show)
        if len(hits) >= limit or not found.deeper:
            return Answer(hits, found.node)
        depth *= retrieval.MORE
