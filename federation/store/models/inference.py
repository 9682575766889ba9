"""Runs of models: who asked what of which weights, and what came back."""

import uuid
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt


class ModelRun(Base):
    """One completion; its id is that of the execution, so that there is one a run."""

    __tablename__ = "model_runs"

    execution_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    engine: Mapped[str]
    model: Mapped[str]
    # Null: it was served, and the server does not tell it.
    model_digest: Mapped[str | None]
    node: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    prompt_sha256: Mapped[str]
    completion: Mapped[str]
    finish_reason: Mapped[str]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    seconds: Mapped[float]
    first_part_s: Mapped[float | None]
    # Who was asked, in order, and what came of it.
    route: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    # Taken out of the cache: which answer, whose, how near, how old. Null: a model ran.
    cached: Mapped[dict[str, Any] | None]
    actor: Mapped[str]
    trace_id: Mapped[str]
    created_at: Mapped[CreatedAt]
