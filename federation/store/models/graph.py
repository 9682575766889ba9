"""What messages and findings say of things: derived from their texts by rules, and seen by those who see what it was derived from."""

import uuid
from enum import StrEnum

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped

from federation.store.models.base import Actor, Base, CreatedAt, Key, one_of


class Source(StrEnum):
    """What a relation was read from."""

    MESSAGE = "message"
    FINDING = "finding"


class GraphRelation(Base):
    """That one thing relates to another, as a message or a finding says; things are kind and name, such as `file:src/main.py`."""

    __tablename__ = "graph_relations"
    __table_args__ = (
        # Read again it says the same.
        UniqueConstraint("source_id", "subject", "relation", "object"),
        Index("ix_graph_relations_subject", "subject", "said_at"),
        Index("ix_graph_relations_object", "object", "said_at"),
        one_of("source", Source),
    )

    id: Mapped[Key]
    source: Mapped[str]
    source_id: Mapped[uuid.UUID]
    conversation_id: Mapped[str]
    subject: Mapped[str]
    relation: Mapped[str]
    object: Mapped[str]
    # When the source was written, so that the latest come first.
    said_at: Mapped[CreatedAt]
    actor: Mapped[Actor]
    created_at: Mapped[CreatedAt]
