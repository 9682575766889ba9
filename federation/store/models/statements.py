"""Whose keys sign what agents say, and what was said so: statements are append-only, a key is revoked once and never replaced."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Actor, Base, CreatedAt, UpdatedBy


class AgentKey(Base):
    """A key that an agent signs statements with, by its SHA-256; no execution is ever signed with one."""

    __tablename__ = "agent_keys"

    identity: Mapped[str] = mapped_column(primary_key=True)
    agent: Mapped[str] = mapped_column(ForeignKey("agents.name"), index=True)
    public_key: Mapped[str]
    created_by: Mapped[Actor]
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]


class SignedStatement(Base):
    """What somebody said about a subject, such as `task:…`, byte for byte as it was signed, by whose key, and who attests it if not he."""

    __tablename__ = "statements"
    __table_args__ = (
        CheckConstraint("mode IN ('signed', 'attested')", name="mode"),
        CheckConstraint("(mode = 'attested') = (attested_by IS NOT NULL)", name="attested_by"),
        # One nonce of a key is one statement.
        UniqueConstraint("key", "nonce"),
        Index("ix_statements_subject_actor", "subject", "actor"),
    )

    # The SHA-256 of the statement.
    digest: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str]
    actor: Mapped[Actor]
    action: Mapped[str]
    choice: Mapped[str]
    mode: Mapped[str]
    attested_by: Mapped[str | None]
    key: Mapped[str]
    nonce: Mapped[str]
    statement: Mapped[str]
    signature: Mapped[bytes]
    created_at: Mapped[CreatedAt]
