"""What was said in a conversation, page by page, as far as its reader may see it, and who has read his own messages."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import ColumnElement, func, or_, select, true
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.services import agents, audiences, conversations, inboxes, statements
from federation.services.charter import is_agent
from federation.services.inboxes import SignedBySender
from federation.store.context import context
from federation.store.models.conversations import Message, MessageType, Receipt

# Of a message to everybody the first of its readers say enough.
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Said:
    """A message in the history of its conversation."""

    position: Annotated[int, Field(description="Its place in the conversation, counted from 1 without gaps; those that are missing are not for you.")]
    message_id: uuid.UUID
    sender: str
    to: Annotated[str | None, Field(description="The agent, role or capability that it is for; null: all members.")]
    message_type: MessageType
    content: str
    data: dict[str, Any] | None
    thread: Annotated[uuid.UUID, Field(description="The message that began this exchange.")]
    reply_to: uuid.UUID | None
    created_at: datetime
    read_by: Annotated[Sequence[str] | None, Field(description="Of your own: who has read it, 20 names at most; else null.")]
    unread_by: Annotated[int | None, Field(description="Of your own: how many have not.")]
    signed: SignedBySender = None


@dataclass(frozen=True, slots=True)
class Page:
    """Messages of one conversation, the oldest first."""

    conversation_id: str
    messages: Sequence[Said]
    more: Annotated[bool, Field(description="There are more: older ones, or with `after` newer ones.")]


def page(
    session: Session,
    conversation_id: str,
    *,
    after: int | None = None,
    before: int | None = None,
    thread: uuid.UUID | None = None,
    limit: int = 50,
) -> Page:
    """Return the latest messages of a conversation, or those next behind or before a position, or of one thread; an operator sees all of them.

    As many as `limit` and an answer's size allow. Raises NotFound for a conversation that is not the caller's, InvalidInput for both positions.
    """
    if after is not None and before is not None:
        raise InvalidInput("before", before, "no `before` beside `after`: one leads on, the other back")
    conversations.require_reader(session, conversation_id)
    forward = after is not None
    listed = select(Message.position.label("place"), Message.id.label("message_id"), inboxes.SIZE.label("size")).where(
        Message.conversation_id == conversation_id, readable(session)
    )
    if after is not None:
        listed = listed.where(Message.position > after)
    if before is not None:
        listed = listed.where(Message.position < before)
    if thread is not None:
        listed = listed.where(Message.correlation_id == thread)
    listed = listed.order_by(Message.position if forward else Message.position.desc()).limit(limit + 1)
    found, more = inboxes.fitting(session, inboxes.fitted(listed, limit, latest_first=not forward))
    said = [message for _, message in (found if forward else reversed(found))]
    return Page(conversation_id, _told(session, said), more)


def readable(session: Session) -> ColumnElement[bool]:
    """Return the condition that the caller may read a message, in a conversation that he may read."""
    # Row-level security says the same; here it is said for parts that see everything.
    actor = context(session).actor
    if not is_agent(actor):
        return true()
    role = Message.audience == audiences.ROLE + agents.role_of(session, actor)
    open_ = Message.recipient.is_(None) & or_(Message.audience.is_(None), Message.audience.startswith(audiences.CAPABILITY), role)
    return or_(open_, Message.sender == actor, Message.recipient == actor)


def _told(session: Session, messages: Iterable[Message]) -> list[Said]:
    listed = list(messages)
    actor = context(session).actor
    read: dict[uuid.UUID, tuple[list[str], int]] = {}
    own = [message.id for message in listed if message.sender == actor]
    if own:
        names = func.array_agg(Receipt.agent).filter(Receipt.read_at.is_not(None))
        counted = func.count().filter(Receipt.read_at.is_(None))
        query = select(Receipt.message_id, names, counted).where(Receipt.message_id.in_(own)).group_by(Receipt.message_id)
        read = {identity: (sorted(readers or ())[:_MOST_NAMED], unread) for identity, readers, unread in session.execute(query)}
    signed = statements.of_messages(session, listed)
    return [_said(message, read.get(message.id, ([], 0)) if message.sender == actor else None, signed.get(message.id)) for message in listed]


def _said(message: Message, read: tuple[list[str], int] | None, signed: bool | None) -> Said:
    return Said(
        position=message.position,
        message_id=message.id,
        sender=message.sender,
        to=message.recipient or message.audience,
        message_type=MessageType(message.message_type),
        content=message.content,
        data=message.data,
        thread=message.correlation_id,
        reply_to=message.reply_to,
        created_at=message.created_at,
        read_by=None if read is None else read[0],
        unread_by=None if read is None else read[1],
        signed=signed,
    )
