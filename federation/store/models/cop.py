"""The common operating picture: one row for each agent and node, as of its last word, and what each said before."""

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, one_of

# A transaction's number, as PostgreSQL's snapshots know it.
THIS_TRANSACTION = text("(pg_current_xact_id())::text::bigint")


class Action(StrEnum):
    """What somebody is doing."""

    EXECUTING = "EXECUTING"
    IDLE = "IDLE"
    WAITING = "WAITING"


class Visibility(StrEnum):
    """Who sees what an agent says of itself, indexes or remembers; it always does, and so do operators, but for what it remembers."""

    ALL = "all"
    MEMBERS = "members"
    ROLE = "role"
    NOBODY = "nobody"


class SubjectKind(StrEnum):
    """Whose state it is."""

    AGENT = "agent"
    NODE = "node"


class CopState(Base):
    """What an agent or a node is doing, thinking, wondering and offering."""

    __tablename__ = "cop_states"
    __table_args__ = (one_of("kind", SubjectKind), one_of("action", Action), one_of("visibility", Visibility))

    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    summary: Mapped[str]
    action: Mapped[str]
    thinking: Mapped[str | None]
    wondering: Mapped[str | None]
    offering: Mapped[str | None]
    data: Mapped[dict[str, Any]]
    visibility: Mapped[str] = mapped_column(server_default=Visibility.ALL)
    updated_by: Mapped[str]
    updated_at: Mapped[CreatedAt]
    # The transaction that wrote it: what a former look could not see has changed since, whenever it was committed.
    changed_in: Mapped[int] = mapped_column(BigInteger, server_default=THIS_TRANSACTION)


class PastState(Base):
    """What an agent said, or a node began to do, at a moment; it held until the next one of the same subject."""

    __tablename__ = "cop_history"
    __table_args__ = (
        one_of("kind", SubjectKind),
        one_of("action", Action),
        one_of("visibility", Visibility),
        Index("ix_cop_history_subject", "kind", "subject", "at"),
    )

    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]
    summary: Mapped[str]
    action: Mapped[str]
    thinking: Mapped[str | None]
    wondering: Mapped[str | None]
    offering: Mapped[str | None]
    data: Mapped[dict[str, Any]]
    visibility: Mapped[str]
    at: Mapped[CreatedAt]
    updated_by: Mapped[str]
