"""Who works with whom, and on what: counted from messages, tasks, votes, sessions and claims that the caller sees; keeps nothing of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.services.episodes import LOOKS_BACK
from federation.store.context import context


@dataclass(frozen=True, slots=True)
class Relation:
    """What two agents did together, or with each other."""

    agent: str
    other: Annotated[str, Field(description="With whom.")]
    by: Annotated[
        str, Field(description="messages (to each other), answers, tasks (one handed out, the other took), votes, sessions, claims (of the same).")
    ]
    on: Annotated[str, Field(description="In which conversation; of claims the resource.")]
    count: Annotated[int, Field(description="How many; of claims how often the other took it.")]
    last_at: datetime


# Each part sees what the policies of its tables show to who asks.
_RELATIONS = text(
    """
    WITH met (one, two, by, on_what, at) AS (
        SELECT sender, recipient, 'messages', conversation_id, created_at FROM messages
        WHERE recipient IS NOT NULL AND created_at >= :since AND (sender = :agent OR recipient = :agent)
        UNION ALL
        SELECT m.sender, asked.sender, 'answers', m.conversation_id, m.created_at FROM messages m JOIN messages asked ON asked.id = m.reply_to
        WHERE m.created_at >= :since AND (m.sender = :agent OR asked.sender = :agent)
        UNION ALL
        SELECT created_by, assigned_to, 'tasks', conversation_id, coalesce(completed_at, created_at) FROM agent_tasks
        WHERE assigned_to IS NOT NULL AND coalesce(completed_at, created_at) >= :since AND (created_by = :agent OR assigned_to = :agent)
        UNION ALL
        SELECT mine.actor, theirs.actor, 'votes', c.conversation_id, greatest(mine.created_at, theirs.created_at)
        FROM consensus_acks mine JOIN consensus_acks theirs USING (consensus_id, revision) JOIN consensus c ON c.id = consensus_id
        WHERE mine.actor = :agent AND greatest(mine.created_at, theirs.created_at) >= :since
        UNION ALL
        SELECT mine.actor, theirs.actor, 'sessions', s.conversation_id, greatest(mine.created_at, theirs.created_at)
        FROM agent_session_members mine JOIN agent_session_members theirs USING (session_id) JOIN agent_sessions s ON s.id = session_id
        WHERE mine.actor = :agent AND greatest(mine.created_at, theirs.created_at) >= :since
        UNION ALL
        (WITH held AS MATERIALIZED (
            SELECT actor, stream, max(created_at) AS at, count(*) AS times FROM events
            WHERE type = 'claim.acquired'
                AND NOT coalesce((payload ->> 'renewed')::boolean, false)
                AND stream NOT LIKE 'claim:task:%' AND created_at >= :since GROUP BY actor, stream
        )
        SELECT mine.actor, theirs.actor, 'claims', substr(mine.stream, 7), greatest(mine.at, theirs.at)
        FROM held mine JOIN held theirs USING (stream), generate_series(1, theirs.times) WHERE mine.actor = :agent)
    )
    SELECT :agent AS agent, CASE WHEN one = :agent THEN two ELSE one END AS other, by, on_what AS on, count(*) AS count, max(at) AS last_at
    FROM met WHERE one <> two AND EXISTS (SELECT FROM agents a WHERE a.name = CASE WHEN one = :agent THEN two ELSE one END)
    GROUP BY 2, 3, 4 ORDER BY last_at DESC, other, by, on_what LIMIT :limit
    """
)
_SINCE = text("SELECT clock_timestamp() - CAST(:back AS interval)")


def of(session: Session, agents: Sequence[str] = (), *, since: datetime | None = None, limit: int = 20) -> list[Relation]:
    """Return with whom each of these agents, or the caller, worked since a moment (in the last 30 days if none is named), the latest first."""
    start = since or session.scalar(_SINCE, {"back": LOOKS_BACK})
    found = [
        Relation(**row)
        for agent in agents or (context(session).actor,)
        for row in session.execute(_RELATIONS, {"agent": agent, "since": start, "limit": limit}).mappings()
    ]
    return sorted(found, key=lambda each: each.last_at, reverse=True)[:limit]
