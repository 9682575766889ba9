"""Conversations, who takes part, what was said, and each reader's numbered inbox."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from federation.charter import Phase
from federation.store.models.base import Base, CreatedAt, Key, UpdatedBy, one_of


class MessageType(StrEnum):
    """What a message is; the last four say something for programs too, in a form of their own."""

    CHAT = "chat"
    TASK = "task"
    RESULT = "result"
    STATUS = "status"
    FINDING = "finding"
    ACTION = "action"
    REQUEST = "request"
    RESPONSE = "response"


class Conversation(Base):
    """A thread of messages; its id is a UUID or a slug that its first writer chose; `unsummarised` counts what all heard since its last summary."""

    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(primary_key=True)
    # Counted, because beat looks for full windows every few seconds, and must not walk through all that was ever said.
    unsummarised: Mapped[int] = mapped_column(server_default="0", index=True)
    created_by: Mapped[str]
    updated_by: Mapped[UpdatedBy]
    created_at: Mapped[CreatedAt]


class ConversationPhase(Base):
    """That a conversation was moved on to a phase; the highest number is where it is, without any it has no phase. Nobody changes a row."""

    __tablename__ = "conversation_phases"
    __table_args__ = (one_of("phase", Phase),)

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"), primary_key=True)
    # Counted from 1, so that of two who move it at once one does.
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    phase: Mapped[str]
    reason: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class Member(Base):
    """An agent that takes part in a conversation."""

    __tablename__ = "conversation_members"

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True)
    agent: Mapped[str] = mapped_column(ForeignKey("agents.name", ondelete="CASCADE"), primary_key=True, index=True)
    added_by: Mapped[str]
    joined_at: Mapped[CreatedAt]


_RESPONSE = "message_type = 'response'"


class Message(Base):
    """One message; `position` counts without gaps within its conversation; without recipient and audience it is for all members.

    `audience` is `role:` or `capability:` and a name: those members who are of that role, or say that they can do that.
    """

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("conversation_id", "position"),
        Index("ix_messages_said_by", "conversation_id", "sender"),
        Index("ix_messages_audience", "audience", postgresql_where="audience IS NOT NULL"),
        # Of all who were asked, one succeeds: the first.
        Index("ix_messages_one_success", "reply_to", unique=True, postgresql_where=f"{_RESPONSE} AND (data ->> 'status') = 'success'"),
        Index("ix_messages_one_response", "reply_to", "sender", unique=True, postgresql_where=_RESPONSE),
        one_of("message_type", MessageType),
        CheckConstraint("audience IS NULL OR audience ~ '^(role|capability):' AND recipient IS NULL", name="audience"),
    )

    id: Mapped[Key]
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"))
    position: Mapped[int] = mapped_column(BigInteger)
    sender: Mapped[str] = mapped_column(ForeignKey("agents.name"))
    recipient: Mapped[str | None] = mapped_column(ForeignKey("agents.name"))
    audience: Mapped[str | None]
    message_type: Mapped[str]
    content: Mapped[str]
    data: Mapped[dict[str, Any] | None]
    correlation_id: Mapped[uuid.UUID] = mapped_column(index=True)
    reply_to: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("messages.id"))
    trace_id: Mapped[str]
    created_at: Mapped[CreatedAt]


class Receipt(Base):
    """A message in an agent's inbox; `position` counts without gaps within that inbox and is the reader's cursor."""

    __tablename__ = "message_receipts"
    __table_args__ = (Index("ix_message_receipts_unread", "agent", "position", postgresql_where="read_at IS NULL"),)

    agent: Mapped[str] = mapped_column(ForeignKey("agents.name", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    message_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), index=True)
    read_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]
