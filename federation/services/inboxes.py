"""Inboxes: each reader's messages under numbers of his own, read up to a cursor; sends nothing."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import ColumnElement, Integer, Select, Text, bindparam, cast, func, select, text
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.security.statements import Mode
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
_PUT = event_log.together(
    """
    put AS MATERIALIZED (
        SELECT agent, federation_next_position('inbox:' || agent) AS position, message_id
        FROM unnest(CAST(:names AS text[]), CAST(:messages AS uuid[])) AS receipt (agent, message_id)
    ), received AS (
        INSERT INTO message_receipts (agent, position, message_id) SELECT agent, position, message_id FROM put
    )
    """,
    first="put",
)


def put_into(session: Session, receipts: Sequence[tuple[str, uuid.UUID]]) -> None:
    """Put messages into inboxes, and wake those who wait for them; the caller has told of it by an event, which is appended with it."""
    # In order of name, so that two broadcasts never wait for each other.
    listed = sorted(receipts, key=lambda receipt: receipt[0])
    event_log.write(session, _PUT, names=[name for name, _ in listed], messages=[message_id for _, message_id in listed])
    notify(session, [f"inbox:{name}" for name, _ in receipts])


def fitted(
    waiting: Select[Any], limit: int | ColumnElement[int], *more: ColumnElement[Any], latest_first: bool = False, room: int = LARGEST_INBOX_BYTES
) -> Select[Any]:
    """Return what selects as many of the first `limit` messages as an answer holds, each with its place and whether it fits, and what is too much.

    `more` are further columns of each message.

    `waiting` selects `place`, `message_id` and `size` of one more than `limit`, in their order; all their sizes have room, or it is the first alone.
    """
    listed = waiting.subquery()
    order = listed.c.place.desc() if latest_first else listed.c.place
    upto, number = func.sum(listed.c.size).over(order_by=order), func.row_number().over(order_by=order)
    summed = select(listed, upto.label("upto"), number.label("number")).subquery()
    # Read before it is known which of them fit would be read for nothing.
    shown = (summed.c.number == 1) | ((summed.c.number <= limit) & (summed.c.upto <= room))
    return select(summed.c.place, Message, shown, *more).outerjoin(Message, (Message.id == summed.c.message_id) & shown).order_by(summed.c.number)


def fitting(session: Session, query: Select[Any], given: Mapping[str, Any] | None = None) -> tuple[list[tuple[int, Message]], bool]:
    """Return the messages that a query of `fitted` finds, each with its place, and whether there are more."""
    rows = session.execute(query, given).all()
    return [(place, message) for place, message, fits in rows if fits], len(rows) > sum(bool(fits) for _, _, fits in rows)


# Made once: it is asked whenever somebody looks, and to make it takes SQLAlchemy longer than to run it.
_NEW = fitted(
    select(Receipt.position.label("place"), Receipt.message_id, SIZE.label("size"))
    .join(Message, Message.id == Receipt.message_id)
    # What was answered to a question that waited for it was read out of turn.
    .where(Receipt.agent == bindparam("reader"), Receipt.position > bindparam("after"), Receipt.read_at.is_(None))
    .order_by(Receipt.position)
    .limit(bindparam("most", type_=Integer) + 1),
    bindparam("most", type_=Integer),
    statements.MODE_OF_MESSAGE,
)


def inbox(session: Session, *, after: int | None = None, limit: int = 50, again: bool = False) -> Inbox:
    """Return the caller's messages behind a cursor, as many as `limit` and LARGEST_INBOX_BYTES allow; up to the cursor they count as read.

    Without a cursor it goes on behind what counts as read, so that a reader that crashed gets them again. Who looks `again` behind the same cursor
    has counted them. Raises InvalidInput for a cursor that was never handed out.
    """
    reader = context(session).actor
    if after is not None and not again:
        read_up_to(session, after)
    rows = session.execute(_NEW, {"reader": reader, "after": after or 0, "most": limit}).all()
    messages = [_received(position, message, mode and mode == Mode.SIGNED) for position, message, fits, mode in rows if fits]
    cursor = messages[-1].cursor if messages else after if after is not None else _read_up_to(session, reader)
    return Inbox(messages, cursor, len(rows) > len(messages))


# With the last place of the inbox, behind which there is no cursor.
_READ = text(
    """
    WITH last AS MATERIALIZED (SELECT coalesce(max(position), 0) AS place FROM message_receipts WHERE agent = :reader),
    read AS (
        UPDATE message_receipts SET read_at = clock_timestamp(), updated_by = :reader FROM last
        WHERE agent = :reader AND read_at IS NULL AND position <= :cursor AND :cursor BETWEEN 0 AND last.place
        RETURNING position
    )
    SELECT last.place, min(read.position), max(read.position), count(read.position) FROM last LEFT JOIN read ON true GROUP BY last.place
    """
)
_READ_ONE = text(
    """
    UPDATE message_receipts SET read_at = clock_timestamp(), updated_by = :reader
    WHERE agent = :reader AND message_id = :message_id AND read_at IS NULL RETURNING position
    """
)


def read_out_of_turn(session: Session, message_id: uuid.UUID) -> None:
    """Count one message as read by the caller, whatever lies before it."""
    reader = context(session).actor
    position = session.scalar(_READ_ONE, {"reader": reader, "message_id": message_id})
    if position is not None:
        _tell_read(session, reader, position, position, 1)


def read_up_to(session: Session, cursor: int) -> None:
    """Count what lies up to a cursor as read by the caller. Raises InvalidInput for one that was never handed out."""
    reader = context(session).actor
    last, first_read, last_read, count = session.execute(_READ, {"reader": reader, "cursor": cursor}).one()
    if not 0 <= cursor <= last:
        raise InvalidInput("after", cursor, f"a cursor that an earlier call returned, 0 to {last}")
    if count:
        _tell_read(session, reader, first_read, last_read, count)


def _tell_read(session: Session, reader: str, first: int, last: int, count: int) -> None:
    event_log.append(session, "message.read", f"agent:{reader}", payload={"agent": reader, "from": first, "to": last, "count": count})


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
