"""Summaries of conversations, window by window, each window once."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import Conflict
from federation.results.tables import celery_results
from federation.services import conversations
from federation.store import event_log, outbox
from federation.store.context import context, notify
from federation.store.models.conversations import Message, Summary

SUMMARISE = "federation.tasks.summaries.summarise"
ENGINE = "minilm"


@dataclass(frozen=True, slots=True)
class SummaryView:
    """The summary of the messages from one position to another, both included."""

    conversation_id: str
    from_position: int
    to_position: int
    text: str
    method: str
    model: str
    message_ids: Sequence[str]
    created_by: str
    created_at: datetime


def request_due(session: Session, *, window: int) -> list[uuid.UUID]:
    """Record an execution for each full window of public messages that has no summary yet; return their ids."""
    ends = select(Summary.conversation_id, func.max(Summary.to_position).label("upto")).group_by(Summary.conversation_id).subquery()
    upto = func.coalesce(ends.c.upto, 0)
    last = func.max(Message.position)
    query = (
        select(Message.conversation_id, upto, last)
        .outerjoin(ends, ends.c.conversation_id == Message.conversation_id)
        .group_by(Message.conversation_id, upto)
        .having(last - upto >= window)
    )
    return [_request(session, conversation_id, start + 1, start + window) for conversation_id, start, _ in session.execute(query).all()]


def request(session: Session, conversation_id: str) -> uuid.UUID:
    """Record the execution that summarises what came since the last summary; return its id.

    Raises Conflict if nothing was said since, NotFound, Refused for a stranger.
    """
    conversations.require_member(session, conversation_id)
    start = session.scalar(select(func.max(Summary.to_position)).where(Summary.conversation_id == conversation_id)) or 0
    last = session.scalar(select(func.max(Message.position)).where(Message.conversation_id == conversation_id)) or 0
    if last <= start:
        raise Conflict(f"nothing was said in {conversation_id} since its last summary, which reaches position {start}")
    return _request(session, conversation_id, start + 1, last)


def _request(session: Session, conversation_id: str, start: int, end: int) -> uuid.UUID:
    kwargs = {"conversation_id": conversation_id, "from_position": start, "to_position": end}
    # The same window has the same id, so that beat's ticks and a caller's request meet in one execution; after a failure it has another.
    attempt = 0
    while _failed(session, identity := outbox.fixed_id("summary", conversation_id, start, end, attempt)):
        attempt += 1
    return outbox.record(session, SUMMARISE, kwargs, requirements={"engine": ENGINE}, execution_id=identity)


def _failed(session: Session, execution_id: uuid.UUID) -> bool:
    state = select(celery_results.c.state).where(celery_results.c.task_id == str(execution_id))
    return session.scalar(state) in {"FAILURE", "REVOKED"}


@dataclass(frozen=True, slots=True)
class Said:
    """A message as the summariser reads it."""

    message_id: uuid.UUID
    sender: str
    content: str


def window(session: Session, conversation_id: str, *, start: int = 1, end: int | None = None) -> list[Said]:
    """Return the messages to all of a window, in order; private ones stay out of summaries. No end: up to the last."""
    query = select(Message.id, Message.sender, Message.content).where(Message.conversation_id == conversation_id, Message.position >= start)
    if end is not None:
        query = query.where(Message.position <= end)
    return [Said(row.id, row.sender, row.content) for row in session.execute(query.where(_public(conversation_id)).order_by(Message.position))]


def _public(conversation_id: str) -> ColumnElement[bool]:
    # In a conversation of two each message is addressed, and both may read the summary.
    return Message.recipient.is_(None) if not conversation_id.startswith("direct:") else Message.id.is_not(None)


def record(session: Session, values: dict[str, Any]) -> bool:
    """Record the summary of a window; False if it has one already."""
    row = {**values, "created_by": context(session).actor}
    made = session.scalar(insert(Summary).values(**row).on_conflict_do_nothing().returning(Summary.id))
    if made is None:
        return False
    conversation_id = values["conversation_id"]
    payload = {"from_position": values["from_position"], "to_position": values["to_position"], "method": values["method"]}
    event_log.append(session, "conversation.summarised", f"conversation:{conversation_id}", payload=payload, conversation_id=conversation_id)
    notify(session, [f"summaries:{conversation_id}"])
    return True


def read(session: Session, conversation_id: str) -> list[SummaryView]:
    """Return the summaries of a conversation, oldest first. Raises NotFound, Refused for a stranger."""
    conversations.require_member(session, conversation_id)
    query = select(Summary).where(Summary.conversation_id == conversation_id).order_by(Summary.from_position)
    return [
        SummaryView(
            row.conversation_id, row.from_position, row.to_position, row.text, row.method, row.model, row.message_ids, row.created_by, row.created_at
        )
        for row in session.scalars(query)
    ]
