"""Sessions, in which several look into one thing: what it is about, who takes part, and what they found; findings are append-only."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import CURRENT_ACTOR, Actor, Base, CreatedAt, Key, UpdatedBy, one_of


class SessionStatus(StrEnum):
    """Where a session stands."""

    ACTIVE = "active"
    COMPLETED = "completed"


class Category(StrEnum):
    """What a finding is."""

    OBSERVATION = "observation"
    HYPOTHESIS = "hypothesis"
    CONCLUSION = "conclusion"


class AgentSession(Base):
    """A shared undertaking with a context, such as an incident; `slug` is the name that its initiator chose, unique in the conversation."""

    __tablename__ = "agent_sessions"
    __table_args__ = (UniqueConstraint("conversation_id", "slug"), one_of("status", SessionStatus))

    id: Mapped[Key]
    # Its members see the session; one from before sessions had any is its initiator's alone.
    conversation_id: Mapped[str | None] = mapped_column(ForeignKey("conversations.id"))
    slug: Mapped[str | None] = mapped_column(index=True)
    context: Mapped[dict[str, Any]]
    # Who votes on its actions; null: each awaits approval.
    voters: Mapped[list[str] | None]
    # Weights by name, or by name:category; 1 for who is not in it.
    expertise: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    status: Mapped[str] = mapped_column(String(50), server_default=SessionStatus.ACTIVE)
    outcome: Mapped[dict[str, Any] | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    completed_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]


class Participant(Base):
    """Somebody who has joined a session, and what he looks into there."""

    __tablename__ = "agent_session_members"

    session_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("agent_sessions.id"), primary_key=True)
    actor: Mapped[Actor] = mapped_column(primary_key=True)
    focus: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[CreatedAt]


class AgentFinding(Base):
    """What somebody found out, and how sure he is of it; it speaks for a hypothesis, or, with `validates`, confirms or refutes it."""

    __tablename__ = "agent_findings"
    __table_args__ = (
        UniqueConstraint("session_id", "position"),
        # What a finding is about is in its own session.
        UniqueConstraint("session_id", "id"),
        ForeignKeyConstraint(["session_id", "hypothesis_id"], ["agent_findings.session_id", "agent_findings.id"]),
        one_of("finding_type", Category),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
        CheckConstraint("finding_type <> 'hypothesis' OR confidence IS NOT NULL AND hypothesis_id IS NULL", name="hypothesis"),
        CheckConstraint("validates IS NULL OR hypothesis_id IS NOT NULL AND finding_type = 'conclusion'", name="validates"),
        # A hypothesis is confirmed or refuted once.
        Index("uq_agent_findings_validated", "hypothesis_id", unique=True, postgresql_where=text("validates IS NOT NULL")),
    )

    id: Mapped[Key]
    session_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("agent_sessions.id"))
    # That of its event in the session's stream: it grows, and is each reader's cursor.
    position: Mapped[int] = mapped_column(BigInteger)
    agent_id: Mapped[str] = mapped_column(String(100), server_default=CURRENT_ACTOR)
    finding_type: Mapped[str] = mapped_column(String(50))
    # `text`, what it says.
    content: Mapped[dict[str, Any]]
    confidence: Mapped[float | None]
    # Objects with source, query and result.
    evidence: Mapped[list[Any]] = mapped_column(JSONB, server_default="[]")
    hypothesis_id: Mapped[uuid.UUID | None]
    validates: Mapped[bool | None]
    trace_id: Mapped[str]
    created_at: Mapped[CreatedAt]
