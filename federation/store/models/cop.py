"""The common operating picture: one row for each agent and node, as of its last word."""

from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, one_of


class Action(StrEnum):
    """What somebody is doing."""

    EXECUTING = "EXECUTING"
    IDLE = "IDLE"
    WAITING = "WAITING"


class Visibility(StrEnum):
    """Who sees what an agent says of itself; it always does, and so do operators."""

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
