"""Agents, people and services that may call, and the hashes of their tokens."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from federation.charter import ROLE_PATTERN
from federation.store.models.base import Actor, Base, CreatedAt, Key, UpdatedBy


class Agent(Base):
    """One who calls, known by name."""

    __tablename__ = "agents"
    # Which roles there are is in the charter, a file; here only what a name of one looks like.
    __table_args__ = (CheckConstraint(f"role ~ '{ROLE_PATTERN}'", name="role"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class Capability(Base):
    """Something that an agent says it can do, by a name such as `analyze_logs`; it gives no right."""

    __tablename__ = "agent_capabilities"

    agent: Mapped[str] = mapped_column(ForeignKey("agents.name", ondelete="CASCADE"), primary_key=True)
    capability: Mapped[str] = mapped_column(primary_key=True, index=True)
    created_by: Mapped[Actor]
    created_at: Mapped[CreatedAt]


class Allowance(Base):
    """How much an agent has taken of what comes back with time: all of it has come back at `used_until`."""

    __tablename__ = "allowances"

    # Not only agents: an operator at the command line is counted too.
    agent: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    used_until: Mapped[datetime]


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
