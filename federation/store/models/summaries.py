"""Summaries of conversations, and when they are due beside what their length asks for."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, Key, UpdatedBy


class Summary(Base):
    """The summary of one window of a conversation: of its messages on level 1, above that of summaries of the level below; each window has one."""

    __tablename__ = "summaries"
    __table_args__ = (UniqueConstraint("conversation_id", "level", "from_position"), CheckConstraint("level >= 1", name="level"))

    id: Mapped[Key]
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"))
    level: Mapped[int] = mapped_column(server_default="1")
    from_position: Mapped[int] = mapped_column(BigInteger)
    to_position: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str]
    method: Mapped[str]
    # Why what a model wrote was not taken; null where none was asked, or where it was.
    rejected: Mapped[str | None]
    model: Mapped[str]
    model_digest: Mapped[str]
    message_ids: Mapped[list[Any]]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class SummarySchedule(Base):
    """When a conversation is summarised: at times of `cron`, in UTC, or after so many `messages` in place of what is so for all; or both."""

    __tablename__ = "summary_schedules"
    __table_args__ = (CheckConstraint("cron IS NOT NULL OR messages IS NOT NULL", name="some"), CheckConstraint("messages >= 2", name="messages"))

    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"), primary_key=True)
    cron: Mapped[str | None]
    messages: Mapped[int | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_by: Mapped[UpdatedBy]
    # Times before it do not count.
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
