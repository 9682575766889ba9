"""Inboxes: each reader's messages under numbers of his own, read up to a cursor; sends nothing."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import ColumnElement, Select, Text, cast, func, select, text, update
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.services import statements
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.models.conversations import Message, MessageType, Receipt

# An answer that is longer overwhelms who reads it: 200 messages may have 20 million characters. One that is longer by itself comes alone.
LARGEST_INBOX_BYTES = 180_000
# What a message has beside its content: ids, names, times.
_ENVELOPE_BYTES = 600
SIZE = func.octet_length(Message.content) + func.coalesce(func.octet_length(cast(Message.data, Text)), 0) + _ENVELOPE_BYTES


# In an answer only where it is true: an inbox is read often.
SignedBySender = Annotated[
    bool | None,
    Field(
        description="true: with the sender's own key. Where it is missing the federation attests whose it is.", exclude_if=lambda signed: not signed
    ),
]


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it lies in an inbox; the rest of it is in the history."""

    cursor: Annotated[int, Field(description="Its place in your inbox, counted from 1.")]
    message_id: Annotated[uuid.UUID, Field(description="Give it as reply_to when you answer.")]
    conversation_id: str
    sender: str
    to: Annotated[str | None, Field(description="You, your role, or what you can do; null: all members of the conversation.")]
    message_type: MessageType
    content: str
    data: Annotated[dict[str, Any] | None, Field(description="What it says for programs: the body of a typed one; of an announced task its task_id.")]
    reply_to: uuid.UUID | None
    created_at: datetime
    signed: SignedBySender = None


@dataclass(frozen=True, slots=True)
class Inbox:
    """What is new, in order."""

    messages: Sequence[Received]
    cursor: Annotated[int, Field(description="Pass it as `after` to the next call, which then counts these messages as read.")]
    more: Annotated[bool, Field(description="There is more behind the cursor: call again.")]


# Each in an inbox takes the next position of it, in the order in which they are given.
_PUT = text(
    """
    WITH put AS MATERIALIZED (
        SELECT agent, federation_next_position('inbox:' || agent) AS position, message_id
        FROM unnest(CAST(:names AS text[]), CAST(:messages AS uuid[])) AS receipt (agent, message_id)
    )
    INSERT INTO message_receipts (agent, position, message_id) SELECT agent, position, message_id FROM put
    """
)


def put_into(session: Session, receipts: Sequence[tuple[str, uuid.UUID]]) -> None:
    """Put messages into inboxes, and wake those who wait for them; the caller tells of it by an event."""
    # In order of name, so that two broadcasts never wait for each other.
    listed = sorted(receipts, key=lambda receipt: receipt[0])
    session.execute(_PUT, {"names": [name for name, _ in listed], "messages": [message_id for _, message_id in listed]})
    notify(session, [f"inbox:{name}" for name, _ in receipts])


def inbox(session: Session, *, after: int | None = None, limit: int = 50, again: bool = False) -> Inbox:
    """Return the caller's messages behind a cursor, as many as `limit` and LARGEST_INBOX_BYTES allow; up to the cursor they count as read.

    Without a cursor it goes on behind what counts as read, so that a reader that crashed gets them again. Who looks `again` behind the same cursor
    has counted them. Raises InvalidInput for a cursor that was never handed out.
    """
    reader = context(session).actor
    if after is not None and not again:
        read_up_to(session, after)
    waiting = (
        select(Receipt.position.label("place"), Receipt.message_id, SIZE.label("size"))
        .join(Message, Message.id == Receipt.message_id)
        # What was answered to a question that waited for it was read out of turn.
        .where(Receipt.agent == reader, Receipt.position > (after or 0), Receipt.read_at.is_(None))
        .order_by(Receipt.position)
        .limit(limit + 1)
    )
    found, more = fitting(session, waiting, limit=limit)
    signed = statements.of_messages(session, [message for _, message in found])
    messages = [_received(position, message, signed.get(message.id)) for position, message in found]
    cursor = messages[-1].cursor if messages else after if after is not None else _read_up_to(session, reader)
    return Inbox(messages, cursor, more)


def fitting(session: Session, waiting: Select[Any], *, limit: int, latest_first: bool = False) -> tuple[list[tuple[int, Message]], bool]:
    """Return as many of the first `limit` messages as an answer holds, each with its place, and whether there are more.

    `waiting` selects `place`, `message_id` and `size` of one more than `limit`, in their order.
    """
    listed = waiting.subquery()
    order = listed.c.place.desc() if latest_first else listed.c.place
    upto, number = func.sum(listed.c.size).over(order_by=order), func.row_number().over(order_by=order)
    summed = select(listed, upto.label("upto"), number.label("number")).subquery()
    # Read before it is known which of them fit would be read for nothing.
    shown = (summed.c.number == 1) | ((summed.c.number <= limit) & (summed.c.upto <= LARGEST_INBOX_BYTES))
    query = select(summed.c.place, Message, shown).outerjoin(Message, (Message.id == summed.c.message_id) & shown).order_by(summed.c.number)
    rows = session.execute(query).all()
    return [(place, message) for place, message, fits in rows if fits], len(rows) > sum(bool(fits) for _, _, fits in rows)


def read_out_of_turn(session: Session, message_id: uuid.UUID) -> None:
    """Count one message as read by the caller, whatever lies before it."""
    reader = context(session).actor
    _note_read(session, reader, Receipt.message_id == message_id)


def read_up_to(session: Session, cursor: int) -> None:
    """Count what lies up to a cursor as read by the caller. Raises InvalidInput for one that was never handed out."""
    reader = context(session).actor
    last = session.scalar(select(func.max(Receipt.position)).where(Receipt.agent == reader)) or 0
    if not 0 <= cursor <= last:
        raise InvalidInput("after", cursor, f"a cursor that an earlier call returned, 0 to {last}")
    _note_read(session, reader, Receipt.position <= cursor)


def _note_read(session: Session, reader: str, which: ColumnElement[bool]) -> None:
    read = session.scalars(
        update(Receipt)
        .where(Receipt.agent == reader, which, Receipt.read_at.is_(None))
        .values(read_at=func.clock_timestamp())
        .returning(Receipt.position)
    ).all()
    if read:
        event_log.append(
            session, "message.read", f"agent:{reader}", payload={"agent": reader, "from": min(read), "to": max(read), "count": len(read)}
        )


def _read_up_to(session: Session, reader: str) -> int:
    # Before the first that is unread, because one may be read out of turn.
    unread = select(func.min(Receipt.position) - 1).where(Receipt.agent == reader, Receipt.read_at.is_(None))
    return session.scalar(select(func.coalesce(unread.scalar_subquery(), func.max(Receipt.position), 0)).where(Receipt.agent == reader)) or 0


def _received(cursor: int, message: Message, signed: bool | None) -> Received:
    return Received(
        cursor,
        message.id,
        message.conversation_id,
        message.sender,
        message.recipient or message.audience,
        MessageType(message.message_type),
        message.content,
        message.data,
        message.reply_to,
        message.created_at,
        signed,
    )
