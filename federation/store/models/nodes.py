"""Nodes as they announced themselves: what the machine really has, and when it last gave a sign of life."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, UpdatedBy


class Node(Base):
    """A machine with a worker; `missing` is what its file declares and the machine lacks."""

    __tablename__ = "nodes"

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    tags: Mapped[list[str]]
    engines: Mapped[list[str]]
    models: Mapped[list[str]]
    gpus: Mapped[list[Any]]  # one {"kind": str, "vram_gib": float} a card
    missing: Mapped[list[str]]
    concurrency: Mapped[int]
    hostname: Mapped[str]
    pid: Mapped[int]
    incarnation: Mapped[uuid.UUID]
    simulated: Mapped[bool]
    announced_at: Mapped[CreatedAt]
    last_seen_at: Mapped[CreatedAt]
    left_at: Mapped[datetime | None]
    # Since when nothing is heard of it, as noticed by beat.
    lost_at: Mapped[datetime | None]
    load: Mapped[dict[str, Any]]
    updated_by: Mapped[UpdatedBy]
