"""Messages: sent to one or to all of a conversation in one transaction, read from a numbered inbox."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from federation.errors import InvalidInput, NotFound
from federation.services import agents, conversations
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.models.conversations import Message, MessageType, Receipt


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is recorded for all its recipients."""

    message_id: uuid.UUID
    conversation_id: str
    position: int
    correlation_id: uuid.UUID
    recipients: Sequence[str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Received:
    """A message as its reader sees it; `cursor` is its place in the reader's inbox (0 in a history)."""

    cursor: int
    message_id: uuid.UUID
    conversation_id: str
    position: int
    sender: str
    recipient: str | None
    message_type: str
    content: str
    data: dict[str, Any] | None
    correlation_id: uuid.UUID
    reply_to: uuid.UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Inbox:
    """What is new, in order; hand `cursor` to the next call, which then counts these messages as read."""

    messages: Sequence[Received]
    cursor: int
    more: bool


def send(
    session: Session,
    content: str,
    *,
    to: str | None = None,
    message_type: str = MessageType.CHAT,
    conversation_id: str | None = None,
    reply_to: uuid.UUID | None = None,
    data: Mapping[str, Any] | None = None,
) -> Sent:
    """Send a message to one agent, or to all members of a conversation (without one: to everybody).

    Raises NotFound for an unknown agent, conversation or message, Refused for a stranger to the conversation, InvalidInput.
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

    identity = uuid.uuid4()
    correlation_id = answered.correlation_id if answered else identity
    recipients = [to] if to else [name for name in conversations.members(session, conversation_id) if name != sender]
    payload = {"message_id": identity, "to": to, "message_type": message_type, "recipients": recipients}
    position = event_log.append(session, "message.sent", f"messages:{conversation_id}", payload=payload, conversation_id=conversation_id)
    message = Message(
        id=identity,
        conversation_id=conversation_id,
        position=position,
        sender=sender,
        recipient=to,
        message_type=message_type,
        content=content,
        data=dict(data) if data is not None else None,
        correlation_id=correlation_id,
        reply_to=reply_to,
        trace_id=context(session).trace_id,
    )
    session.add(message)
    session.flush()
    # In order of name, so that two broadcasts never wait for each other.
    for name in sorted(recipients):
        session.add(Receipt(agent=name, position=event_log.advance(session, f"inbox:{name}"), message_id=identity))
    session.flush()
    notify(session, [f"inbox:{name}" for name in recipients])
    return Sent(identity, conversation_id, position, correlation_id, recipients, message.created_at)


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
    """Return the caller's messages behind a cursor; up to the cursor they count as read.

    Without a cursor it goes on behind what counts as read, so that a reader that crashed gets them again.
    """
    reader = context(session).actor
    if after is not None:
        last = session.scalar(select(func.max(Receipt.position)).where(Receipt.agent == reader)) or 0
        if not 0 <= after <= last:
            raise InvalidInput("after", after, f"a cursor that an earlier call returned, 0 to {last}")
        _read(session, reader, after)
    query = (
        select(Receipt.position, Message)
        .join(Message, Message.id == Receipt.message_id)
        .where(Receipt.agent == reader, Receipt.position > after if after is not None else Receipt.read_at.is_(None))
        .order_by(Receipt.position)
        .limit(limit + 1)
    )
    rows = session.execute(query).all()
    messages = [_received(position, message) for position, message in rows[:limit]]
    cursor = messages[-1].cursor if messages else after if after is not None else _read_up_to(session, reader)
    return Inbox(messages, cursor, len(rows) > limit)


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
        message.message_type,
        message.content,
        message.data,
        message.correlation_id,
        message.reply_to,
        message.created_at,
    )
