"""Votes: what is asked, who has acknowledged it, and the ballots; acknowledgements and ballots are append-only, and what was closed stays closed."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Actor, Base, CreatedAt, Key, UpdatedBy, one_of


class ConsensusState(StrEnum):
    """Where a vote stands."""

    OPEN = "open"
    DECIDED = "decided"
    UNDECIDED = "undecided"
    WITHDRAWN = "withdrawn"


class Consensus(Base):
    """A vote; `proposal` is all that it is about, in its present revision, and `options_hash` the SHA-256 of it."""

    __tablename__ = "consensus"
    __table_args__ = (
        UniqueConstraint("conversation_id", "slug"),
        one_of("state", ConsensusState),
        # Beat looks for what is over again and again.
        Index("ix_consensus_open", "deadline", postgresql_where=text("state = 'open'")),
        Index("ix_consensus_unapplied", "closed_at", postgresql_where=text("state <> 'open' AND task_id IS NOT NULL AND applied_at IS NULL")),
        # One task is put to one vote at a time.
        Index("uq_consensus_open_task", "task_id", unique=True, postgresql_where=text("state = 'open'")),
    )

    id: Mapped[Key]
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"))
    # The name that its author chose.
    slug: Mapped[str | None] = mapped_column(index=True)
    revision: Mapped[int] = mapped_column(server_default="1")
    proposal: Mapped[dict[str, Any]]
    options_hash: Mapped[str]
    # Ballots are for all to see before the end.
    shown: Mapped[bool] = mapped_column(server_default=false())
    # The task whose approval the outcome decides.
    task_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("agent_tasks.id"), index=True)
    deadline: Mapped[datetime]
    state: Mapped[str] = mapped_column(server_default=ConsensusState.OPEN)
    outcome: Mapped[dict[str, Any] | None]
    created_by: Mapped[str]
    trace_id: Mapped[str]
    created_at: Mapped[CreatedAt]
    closed_at: Mapped[datetime | None]
    # When the outcome was carried out on the task.
    applied_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]


class Acknowledgement(Base):
    """That a voter has the proposal of one revision in hand, by its hash."""

    __tablename__ = "consensus_acks"

    consensus_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("consensus.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    actor: Mapped[Actor] = mapped_column(primary_key=True)
    options_hash: Mapped[str]
    created_at: Mapped[CreatedAt]


class StoredBallot(Base):
    """What a voter voted in one revision; `digest` names the statement that says so, null where nobody signed or attested it."""

    __tablename__ = "ballots"

    consensus_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("consensus.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    actor: Mapped[Actor] = mapped_column(primary_key=True)
    response: Mapped[list[Any]]
    # The response in one word, as it is signed.
    choice: Mapped[str]
    confidence: Mapped[float | None]
    reason: Mapped[str] = mapped_column(server_default="")
    digest: Mapped[str | None]
    created_at: Mapped[CreatedAt]
