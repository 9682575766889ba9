"""Agents, people and services that may call, and the hashes of their tokens."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, Key, UpdatedBy, one_of


class Role(StrEnum):
    """What an agent or a node is for."""

    LEAD = "lead"
    DEVELOPER = "developer"
    ANALYST = "analyst"
    HUMAN = "human"
    OBSERVER = "observer"
    SERVICE = "service"


class Agent(Base):
    """One who calls, known by name."""

    __tablename__ = "agents"
    __table_args__ = (one_of("role", Role),)

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class AgentToken(Base):
    """A bearer token, stored as its SHA-256 only."""

    __tablename__ = "agent_tokens"

    id: Mapped[Key]
    agent: Mapped[str] = mapped_column(ForeignKey("agents.name", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    # Where it is used, as whoever made it said.
    label: Mapped[str] = mapped_column(server_default="")
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]
