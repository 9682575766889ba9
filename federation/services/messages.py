"""Messages: sent to one or to all of a conversation in one transaction, read from a numbered inbox."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Text, cast, func, null, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, NotFound
from federation.services import agents, conversations, limits
from federation.services.names import valid_slug
from federation.store import event_log, outbox
from federation.store.context import context, notify
from federation.store.models.conversations import Message, MessageType, Receipt

# An answer that is longer overwhelms who reads it: 200 messages may have 20 million characters. One that is longer by itself comes alone.
LARGEST_INBOX_BYTES = 180_000
# What a message has beside its content: ids, names, times.
_ENVELOPE_BYTES = 600
# Of the data as PostgreSQL will hold them.
_DIGEST = text("SELECT encode(sha256(convert_to(CAST(:data AS jsonb)::text, 'UTF8')), 'hex')")


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is recorded for all its recipients."""

    message_id: uuid.UUID
    conversation_id: str
    position: Annotated[int, Field(description="Its place in the conversation, counted from 1 without gaps.")]
    correlation_id: Annotated[uuid.UUID, Field(description="The message that began this exchange of questions and answers.")]
    recipients: Annotated[Sequence[str], Field(description="Names of the agents in whose inboxes it is; empty: nobody else is there yet.")]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Received:
    """A message as its reader sees it."""

    cursor: Annotated[int, Field(description="Its place in your inbox, counted from 1.")]
    message_id: Annotated[uuid.UUID, Field(description="Give it as reply_to when you answer.")]
    conversation_id: str
    position: Annotated[int, Field(description="Its place in the conversation, counted from 1 without gaps.")]
    sender: str
    recipient: Annotated[str | None, Field(description="The one agent that it was sent to; null: all members of the conversation.")]
    message_type: MessageType
    content: str
    data: Annotated[dict[str, Any] | None, Field(description="What belongs to it for programs; of an announced task: task_id, slug, role, priority.")]
    correlation_id: Annotated[uuid.UUID, Field(description="The message that began this exchange of questions and answers.")]
    reply_to: uuid.UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Inbox:
    """What is new, in order."""

    messages: Sequence[Received]
    cursor: Annotated[int, Field(description="Pass it as `after` to the next call, which then counts these messages as read.")]
    more: Annotated[bool, Field(description="There is more behind the cursor: call again.")]


def send(
    session: Session,
    content: str,
    *,
    to: str | None = None,
    message_type: str = MessageType.CHAT,
    conversation_id: str | None = None,
    reply_to: uuid.UUID | None = None,
    data: Mapping[str, Any] | None = None,
    slug: str | None = None,
    counted: bool = True,
) -> Sent:
    """Send a message to one agent, or to all members of a conversation (without one: to everybody).

    Sent again under the same `slug` it is the message that was sent before. One that is not `counted` takes nothing of what its sender may
    send in a minute. Raises NotFound for an unknown agent, conversation or message, Refused for a stranger to the conversation, Conflict for
    a slug under which the sender said something else, InvalidInput, RateLimited.
    """
    sender = context(session).actor
    agents.require(content, "content")
    if message_type not in set(MessageType):
        raise InvalidInput("message_type", message_type, "one of " + ", ".join(MessageType))
    answered = _answered(session, reply_to)
    if answered is not None and answered.recipient is not None and to is None:
        # What was said to one is answered to one.
        to = answered.sender if answered.sender != sender else answered.recipient
    if to is not None:
        agents.get(session, to)
    if conversation_id is None:
        conversation_id = answered.conversation_id if answered else conversations.direct(sender, to) if to else conversations.COMMONS
    conversations.open_for(session, conversation_id, [to] if to else [])
    if answered is not None and answered.conversation_id != conversation_id:
        raise InvalidInput("reply_to", str(reply_to), f"a message of conversation {conversation_id}")

    identity = uuid.uuid4() if slug is None else _identity(conversation_id, sender, valid_slug("message_id", slug))
    said = {
        "conversation_id": conversation_id,
        "sender": sender,
        "recipient": to,
        "message_type": message_type,
        "content": content,
        "data": dict(data) if data is not None else None,
        "reply_to": reply_to,
    }
    recipients = [to] if to else [name for name in conversations.members(session, conversation_id) if name != sender]
    correlation_id = answered.correlation_id if answered else identity
    # The position is taken before it is known whether the message is new: what was taken for nothing is given back.
    attempt = session.begin_nested()
    if counted:
        limits.message(session)
    payload = {
        "message_id": identity,
        "to": to,
        "message_type": message_type,
        "recipients": recipients,
        "reply_to": reply_to,
        "correlation_id": correlation_id,
        # Not what was said: the log may be read by more than the members.
        "content_sha256": hashlib.sha256(content.encode()).hexdigest(),
        "data_sha256": None if said["data"] is None else session.scalar(_DIGEST, {"data": json.dumps(said["data"])}),
    }
    position = event_log.append(session, "message.sent", f"messages:{conversation_id}", payload=payload, conversation_id=conversation_id)
    row: dict[str, Any] = {"id": identity, **said, "position": position, "correlation_id": correlation_id, "trace_id": context(session).trace_id}
    if data is None:
        row["data"] = null()
    created_at = session.scalar(insert(Message).values(**row).on_conflict_do_nothing(index_elements=["id"]).returning(Message.created_at))
    if created_at is None:
        attempt.rollback()
        return _sent_before(session, identity, slug or "", said)
    attempt.commit()
    if to is None or conversations.is_direct(conversation_id):
        conversations.said_to_all(session, conversation_id)
    # In order of name, so that two broadcasts never wait for each other.
    for name in sorted(recipients):
        session.add(Receipt(agent=name, position=event_log.advance(session, f"inbox:{name}"), message_id=identity))
    session.flush()
    notify(session, [f"inbox:{name}" for name in recipients])
    return Sent(identity, conversation_id, position, correlation_id, recipients, created_at)


def _identity(conversation_id: str, sender: str, slug: str) -> uuid.UUID:
    # As JSON, because names may contain whatever would separate them.
    return outbox.fixed_id("message", json.dumps([conversation_id, sender, slug]))


def _sent_before(session: Session, identity: uuid.UUID, slug: str, said: Mapping[str, Any]) -> Sent:
    """Return what was sent under this slug. Raises Conflict if it was something else."""
    former = session.get_one(Message, identity)
    others = [name for name, value in said.items() if getattr(former, name) != value]
    if others:
        raise Conflict(
            f"you sent another message as {slug!r} in {former.conversation_id} ({', '.join(others)} differ); "
            "choose another message_id, or repeat the call as it was"
        )
    recipients = session.scalars(select(Receipt.agent).where(Receipt.message_id == identity).order_by(Receipt.agent))
    return Sent(identity, former.conversation_id, former.position, former.correlation_id, list(recipients), former.created_at)


def _answered(session: Session, reply_to: uuid.UUID | None) -> Message | None:
    if reply_to is None:
        return None
    answered = session.get(Message, reply_to)
    if answered is None:
        raise NotFound("message", str(reply_to))
    conversations.require_member(session, answered.conversation_id)
    if answered.recipient is not None and context(session).actor not in {answered.recipient, answered.sender}:
        raise NotFound("message", str(reply_to))
    return answered


def inbox(session: Session, *, after: int | None = None, limit: int = 50) -> Inbox:
    """Return the caller's messages behind a cursor, as many as `limit` and LARGEST_INBOX_BYTES allow; up to the cursor they count as read.

    Without a cursor it goes on behind what counts as read, so that a reader that crashed gets them again.
    """
    reader = context(session).actor
    if after is not None:
        last = session.scalar(select(func.max(Receipt.position)).where(Receipt.agent == reader)) or 0
        if not 0 <= after <= last:
            raise InvalidInput("after", after, f"a cursor that an earlier call returned, 0 to {last}")
        _read(session, reader, after)
    size = func.octet_length(Message.content) + func.coalesce(func.octet_length(cast(Message.data, Text)), 0) + _ENVELOPE_BYTES
    waiting = (
        select(Receipt.position, Receipt.message_id, size.label("size"))
        .join(Message, Message.id == Receipt.message_id)
        .where(Receipt.agent == reader, Receipt.position > after if after is not None else Receipt.read_at.is_(None))
        .order_by(Receipt.position)
        .limit(limit + 1)
        .subquery()
    )
    upto = func.sum(waiting.c.size).over(order_by=waiting.c.position)
    summed = select(waiting, upto.label("upto"), func.row_number().over(order_by=waiting.c.position).label("place")).subquery()
    # Read before it is known which of them fit would be read for nothing.
    shown = (summed.c.place == 1) | ((summed.c.place <= limit) & (summed.c.upto <= LARGEST_INBOX_BYTES))
    query = select(summed.c.position, Message, shown).outerjoin(Message, (Message.id == summed.c.message_id) & shown).order_by(summed.c.position)
    rows = session.execute(query).all()
    messages = [_received(position, message) for position, message, fits in rows if fits]
    cursor = messages[-1].cursor if messages else after if after is not None else _read_up_to(session, reader)
    return Inbox(messages, cursor, len(rows) > len(messages))


def _read(session: Session, reader: str, upto: int) -> None:
    read = session.scalars(
        update(Receipt)
        .where(Receipt.agent == reader, Receipt.position <= upto, Receipt.read_at.is_(None))
        .values(read_at=func.clock_timestamp())
        .returning(Receipt.position)
    ).all()
    if read:
        event_log.append(
            session, "message.read", f"agent:{reader}", payload={"agent": reader, "from": min(read), "to": max(read), "count": len(read)}
        )


def _read_up_to(session: Session, reader: str) -> int:
    return session.scalar(select(func.coalesce(func.max(Receipt.position), 0)).where(Receipt.agent == reader, Receipt.read_at.is_not(None))) or 0


def history(session: Session, conversation_id: str, *, after: int = 0, limit: int = 100) -> list[Received]:
    """Return the messages of a conversation behind a position, in order, that the caller may see."""
    conversations.require_member(session, conversation_id)
    actor = context(session).actor
    query = (
        select(Message)
        .where(Message.conversation_id == conversation_id, Message.position > after)
        .where(Message.recipient.is_(None) | (Message.recipient == actor) | (Message.sender == actor))
        .order_by(Message.position)
        .limit(limit)
    )
    return [_received(0, message) for message in session.scalars(query)]


def _received(cursor: int, message: Message) -> Received:
    return Received(
        cursor,
        message.id,
        message.conversation_id,
        message.position,
        message.sender,
        message.recipient,
        MessageType(message.message_type),
        message.content,
        message.data,
        message.correlation_id,
        message.reply_to,
        message.created_at,
    )
