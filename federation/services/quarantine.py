"""The quarantine: messages that are not run any more, each with its story; an operator reads it there, and sends it again or dismisses it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, NotFound
from federation.results.tables import celery_results
from federation.services import task_ends
from federation.services.storable import refuse_unstorable
from federation.store import event_log, outbox
from federation.store.context import Unsent, context
from federation.store.models.executions import Delivery, Dismissal, Execution, QuarantinedMessage, Redrive

_DIGESTS = text(
    """
    SELECT encode(sha256(convert_to(headers::text, 'UTF8')), 'hex') AS headers_sha256, encode(sha256(body), 'hex') AS body_sha256
    FROM quarantine WHERE id = :id
    """
)
_FRESH = text("SELECT created_at > clock_timestamp() - interval '1 minute' FROM quarantine WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Entry:
    """What was put aside, was not sent again, and was not dismissed."""

    id: uuid.UUID
    execution_id: uuid.UUID | None
    task_name: str | None
    queue: str
    worker: str
    reason: str
    created_at: datetime


def put_aside(
    session: Session,
    reason: str,
    *,
    queue: str,
    worker: str,
    headers: Mapping[str, Any],
    body: bytes,
    execution_id: uuid.UUID | None = None,
    task_name: str | None = None,
) -> uuid.UUID:
    """Put a message aside with its reason, its deliveries and all that came with it; return the entry's id.

    Without an `execution_id` the entry says nothing about an execution: what nobody can vouch for must not end what it only names.
    """
    story = [] if execution_id is None else _story(session, execution_id)
    kept = {**_storable(headers), "deliveries": story}
    entry = QuarantinedMessage(
        id=uuid.uuid4(),
        execution_id=execution_id,
        task_name=None if task_name is None else _storable(task_name),
        queue=queue,
        worker=worker,
        reason=_storable(reason),
        headers=kept,
        body=body,
    )
    session.add(entry)
    session.flush()
    digests = session.execute(_DIGESTS, {"id": entry.id}).one()._asdict()
    told = {"task_name": entry.task_name, "queue": queue, "worker": worker, "reason": entry.reason, "deliveries": story}
    payload = {"quarantine_id": entry.id, **told, **digests}
    event_log.append(session, "execution.quarantined", _stream(entry), payload=payload)
    return entry.id


def _stream(entry: QuarantinedMessage) -> str:
    return f"execution:{entry.execution_id}" if entry.execution_id else f"queue:{entry.queue}"


def _named(entry: QuarantinedMessage) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(entry.headers.get("id")))
    except ValueError:
        return None


def _storable(value: Any) -> Any:
    """Return foreign headers as JSON that PostgreSQL takes: its text holds neither NUL nor lone surrogates."""
    if isinstance(value, Mapping):
        return {_storable(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    text_value = value if isinstance(value, str) else repr(value)
    return text_value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _story(session: Session, execution_id: uuid.UUID) -> list[dict[str, Any]]:
    rows = session.scalars(select(Delivery).where(Delivery.execution_id == execution_id).order_by(Delivery.number))
    return [
        {"number": row.number, "worker": row.worker, "pid": row.pid, "redelivered": row.redelivered, "at": row.delivered_at.isoformat()}
        for row in rows
    ]


def listed(session: Session, *, limit: int = 100) -> list[Entry]:
    """Return the latest entries that wait for somebody's decision, the newest first: neither sent again nor dismissed."""
    query = select(QuarantinedMessage).where(_waits()).order_by(QuarantinedMessage.created_at.desc()).limit(limit)
    return [Entry(row.id, row.execution_id, row.task_name, row.queue, row.worker, row.reason, row.created_at) for row in session.scalars(query)]


def _waits() -> ColumnElement[bool]:
    return and_(*(~select(done).where(done.quarantine_id == QuarantinedMessage.id).exists() for done in (Redrive, Dismissal)))


def find(session: Session, reference: uuid.UUID) -> QuarantinedMessage:
    """Return an entry by its own id, or the latest of an execution, also one that only names it. Raises NotFound with the latest."""
    named = QuarantinedMessage.headers["id"].astext == str(reference)
    query = select(QuarantinedMessage).where(or_(QuarantinedMessage.id == reference, QuarantinedMessage.execution_id == reference, named))
    # One that only names it must not stand before one that speaks of it.
    entry = session.scalars(query.order_by(QuarantinedMessage.execution_id.is_(None), QuarantinedMessage.created_at.desc()).limit(1)).one_or_none()
    if entry is None:
        raise NotFound("quarantined execution", str(reference), [str(entry.execution_id or entry.id) for entry in listed(session, limit=3)])
    return entry


def redrive(session: Session, reference: uuid.UUID) -> uuid.UUID:
    """Send a quarantined execution again, under its own id, so that the effects that it had stay the only ones; return that id.

    What is sent is what was recorded, and nothing of the message that was put aside. Its failures so far count no more.
    Raises NotFound, Conflict for one that was sent again already, that has ended otherwise, that is just being put aside, or that was not ours.
    """
    entry = find(session, reference)
    identity = entry.execution_id or _named(entry)
    execution = None if identity is None else session.get(Execution, identity, with_for_update=True)
    if execution is None:
        raise Conflict(f"{reference} was not sent by the federation, so it cannot be sent again from here: {entry.reason}")
    made = insert(Redrive).values(quarantine_id=entry.id, execution_id=execution.id).on_conflict_do_nothing()
    if session.scalar(made.returning(Redrive.quarantine_id)) is None:
        raise Conflict(f"execution {execution.id} was sent again already; look at it with federation task show {execution.id}")
    ended = session.scalar(select(celery_results.c.state).where(celery_results.c.task_id == str(execution.id)))
    # Results go some day; how it ended stays.
    ended = ended or execution.outcome
    if execution.cancelled_at is not None or ended in {"SUCCESS", "REVOKED"}:
        raise Conflict(f"execution {execution.id} {'has succeeded' if ended == 'SUCCESS' else 'was cancelled'}; there is nothing to send again")
    if entry.execution_id is None and ended is not None:
        raise Conflict(f"execution {execution.id} has failed, and not by this message, which only names it; there is nothing to send again")
    if ended is None and entry.execution_id is not None and session.scalar(_FRESH, {"id": entry.id}):
        # Its failure is stored after the entry: stored after this, it would be taken for the end of what is sent now.
        raise Conflict(f"execution {execution.id} is being put aside, and its failure is not stored yet; try again in a second, at most in a minute")
    session.execute(delete(celery_results).where(celery_results.c.task_id == str(execution.id)))
    session.execute(update(Execution).where(Execution.id == execution.id).values(outcome=None, ended_at=None, node=None, sent_at=None))
    if execution.agent_task_id is not None:
        task_ends.reopen(session, execution.agent_task_id)
    event_log.append(session, "execution.redriven", f"execution:{execution.id}", payload={"quarantine_id": entry.id})
    outbox.put_back(session, execution.id, None)
    context(session).outbox.append(Unsent(execution.id, execution.requirements, execution.affinity))
    return execution.id


def dismiss(session: Session, reference: uuid.UUID, *, reason: str) -> list[uuid.UUID]:
    """Take an entry, or all of an execution, from the list of what waits; return their ids. What was put aside stays, and can still be sent again.

    Raises InvalidInput for no reason, NotFound, Conflict where none waits.
    """
    refuse_unstorable("reason", reason)
    if not reason.strip():
        raise InvalidInput("reason", reason, "why nothing is to be done about it, for those who read it later")
    named = find(session, reference)
    # One that only names an execution is none of its own.
    alike = QuarantinedMessage.execution_id == named.execution_id if named.execution_id == reference else QuarantinedMessage.id == named.id
    dismissed = []
    for entry in session.scalars(select(QuarantinedMessage).where(alike, _waits()).order_by(QuarantinedMessage.created_at)):
        made = insert(Dismissal).values(quarantine_id=entry.id, reason=reason).on_conflict_do_nothing()
        if session.scalar(made.returning(Dismissal.quarantine_id)) is not None:
            event_log.append(session, "execution.dismissed", _stream(entry), payload={"quarantine_id": entry.id, "reason": reason})
            dismissed.append(entry.id)
    if not dismissed:
        former = dismissal(session, named.id)
        raise Conflict(f"{reference} was {f'dismissed already by {former.actor}: {former.reason}' if former else 'sent again; nothing waits there'}")
    return dismissed


def dismissal(session: Session, entry_id: uuid.UUID) -> Dismissal | None:
    """Return who dismissed an entry, and why; None for one that was not dismissed."""
    return session.get(Dismissal, entry_id)
