"""Appends events; each takes the next position of its stream, in the transaction of the write that it tells of."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.store.context import context

# The row lock on the stream is held until the commit, so positions have no gaps and follow the order of commits. The function takes it,
# because names of streams hold those of conversations, and who may append an event may not see all of them.
_APPEND = text(
    """
    WITH next AS MATERIALIZED (SELECT federation_next_position(:stream) AS position)
    INSERT INTO events (stream, position, type, actor, conversation_id, session_id, payload, trace_id)
    SELECT :stream, next.position, :type, :actor, :conversation_id, :session_id, CAST(:payload AS jsonb), :trace_id FROM next
    RETURNING position
    """
)
_ADVANCE = text("SELECT federation_next_position(:stream)")


def append(
    session: Session,
    event_type: str,
    stream: str,
    *,
    payload: Mapping[str, Any],
    conversation_id: str | None = None,
    session_id: uuid.UUID | None = None,
    trace_id: str | None = None,
) -> int:
    """Append an event and return its position in its stream, counted from 1.

    `trace_id` is that of the request that the event belongs to, where one transaction works for several.
    """
    who = context(session)
    values = {
        "stream": stream,
        "type": event_type,
        "actor": who.actor,
        "conversation_id": conversation_id,
        "session_id": session_id,
        "payload": json.dumps(payload, default=str),
        "trace_id": trace_id or who.trace_id,
    }
    return int(session.execute(_APPEND, values).scalar_one())


def advance(session: Session, stream: str) -> int:
    """Take the next position of a stream that has no events of its own, such as an inbox."""
    return int(session.execute(_ADVANCE, {"stream": stream}).scalar_one())
