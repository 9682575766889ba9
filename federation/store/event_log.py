"""Records events: put down with the write that they tell of, and appended before the commit, each at the next position of its stream."""

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import TextClause, event, text
from sqlalchemy.orm import Session, SessionTransaction

from federation.errors import Conflict, TransientError
from federation.store.context import Told, context, found_context
from federation.store.payloads.catalogue import version

# The row lock on the stream is held until the commit, so positions have no gaps and follow the order of commits. The function takes it,
# because names of streams hold those of conversations, and who may append an event may not see all of them.
_EACH = "federation_append(stream, position, type, actor, conversation_id, session_id, payload, trace_id)"
_TOLD = """
    jsonb_to_recordset(CAST(:events AS jsonb)) AS e (
        stream text, position bigint, type text, actor text, conversation_id text, session_id uuid, payload jsonb, trace_id text, kept jsonb
    )
"""
_STATED = """
    stated AS (
        -- By a key that is its author's now, and stays so until the commit.
        INSERT INTO statements (digest, subject, actor, action, choice, mode, attested_by, key, nonce, statement, signature)
        SELECT digest, subject, s.actor, action, choice, mode, attested_by, key, nonce, statement, decode(signature, 'base64')
        FROM told CROSS JOIN jsonb_to_record(told.kept) AS s (
            digest text, subject text, actor text, action text, choice text, mode text, attested_by text, key text, nonce text, statement text,
            signature text
        ) CROSS JOIN federation_key(s.key) AS k
        WHERE told.kept IS NOT NULL AND k.whose = coalesce(s.attested_by, s.actor) AND k.ended_at IS NULL
        RETURNING digest
    )
"""


class Appending(NamedTuple):
    """What appends events, and what does so where there are statements among them."""

    plain: TextClause
    stated: TextClause


def together(parts: str = "", *, first: str | None = None) -> Appending:
    """Return what does these parts, each as in WITH, and appends the events, in one journey; the part `first`, which returns rows, before them."""
    told = f"WITH told AS MATERIALIZED (SELECT * FROM {_TOLD})"  # noqa: S608 - all of it is ours
    more = f", {parts}" if parts else ""
    each = f"SELECT {_EACH} FROM told WHERE " + (f"(SELECT count(*) FROM {first}) IS NOT NULL" if first else "true")  # noqa: S608 - as above
    # Statements by themselves, because PostgreSQL makes ready to write them for each run of it, also where there are none.
    all_stated = "(SELECT count(*) FROM stated) = (SELECT count(kept) FROM told)"
    return Appending(text(f"{told}{more} {each}"), text(f"{told}, {_STATED}{more} {each} AND {all_stated}").execution_options(preserve_rowcount=True))


_ALONE = together()


def completing(more: str = "'{}'") -> str:
    """Return the expression of SQL that appends the event of `completed` to its stream, with this JSON added to its payload."""
    return f"federation_append(:stream, NULL, :type, :actor, NULL, NULL, CAST(:payload AS jsonb) || {more}, :trace_id)"


def completed(event_type: str, stream: str, *, payload: Mapping[str, Any], actor: str, trace_id: str) -> dict[str, Any]:
    """Return the values for `completing`: of an event that one statement writes with what it tells of, in no transaction of ours."""
    told = json.dumps({"version": version(event_type), **payload}, default=_as_text)
    return {"type": event_type, "stream": stream, "payload": told, "actor": actor, "trace_id": trace_id}


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
    position: int | None = None,
    kept: Mapping[str, Any] | None = None,
    unkept: Callable[[], object] | None = None,
) -> None:
    """Append an event before the commit, in the order of the calls, with all others of the transaction in one statement.

    The payload gets the version of its form, from the catalogue of payloads.
    `trace_id` is that of the request that the event belongs to, where one transaction works for several; `position` its place in its stream, where
    that was taken already. `kept` is the row of the statement that it tells of, where that is not written yet, its signature in base64;
    where its key is not its author's when it is written, nothing is, and `unkept` raises what says so.
    """
    who = context(session)
    told = {
        "stream": stream,
        "position": position,
        "type": event_type,
        "actor": who.actor,
        "conversation_id": conversation_id,
        "session_id": session_id,
        "payload": {"version": version(event_type), **payload},
        "trace_id": trace_id or who.trace_id,
        "kept": kept,
    }
    # As text now: what the caller does with the payload later is not what happened.
    who.events.append(Told(stream, position, json.dumps(told, default=_as_text), kept is not None, unkept))


def _as_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def write(session: Session, besides: Appending = _ALONE, **values: Any) -> None:
    """Append what was put down so far: before the commit, and before somebody else acts in this transaction; `besides` do something else."""
    events = context(session).events
    if not events and besides is _ALONE:
        return
    told = list(events)
    events.clear()
    values["events"] = f"[{','.join(one.line for one in told)}]"
    if not any(one.states for one in told):
        session.execute(besides.plain, values)
        return
    written: Any = session.execute(besides.stated, values)
    if written.rowcount < len(told):
        for one in told:
            if one.unkept is not None:
                one.unkept()
        raise TransientError("what was signed just now could not be recorded; call again")


def withhold(session: Session) -> None:
    """Forget what was put down so far and is not written: of what must be done although it cannot be told."""
    context(session).events.clear()


def advance(session: Session, stream: str) -> int:
    """Take the next position of a stream, counted from 1: for an event that is appended there, or of a stream that has none, such as an inbox."""
    if any(one.stream == stream and one.position is None for one in context(session).events):
        write(session)
    return int(session.execute(_ADVANCE, {"stream": stream}).scalar_one())


def occupied(place: str) -> Conflict:
    """Return what somebody is told whose place, in words, has a row already that was written beside the program, without taking it."""
    return Conflict(
        f"nothing was recorded: a row stands already where this belongs, {place}, and was not written by the program; "
        "tell an operator, who removes it as the owner of the tables"
    )


def attempt(session: Session) -> SessionTransaction:
    """Begin what is committed, or rolled back together with the events that were put down in it."""
    attempted = session.begin_nested()
    who = context(session)
    who.attempts[attempted] = list(who.events)
    return attempted


@event.listens_for(Session, "after_soft_rollback")
def _forget(session: Session, undone: SessionTransaction) -> None:
    # What was undone did not happen; what was put down before an attempt did, and may have been written in it.
    if (who := found_context(session)) is not None:
        who.events[:] = who.attempts.pop(undone, [])
