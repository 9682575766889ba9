"""Whose keys sign executions: public halves only; one is revoked and never replaced."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Actor, Base, CreatedAt, UpdatedBy


class Signer(Base):
    """A key that signs executions, by its SHA-256; what it signed after it was revoked, or before that and not yet run, does not run."""

    __tablename__ = "signers"

    identity: Mapped[str] = mapped_column(primary_key=True)
    # What it belongs to, such as `node:taichi`; one that lost its key has several.
    name: Mapped[str]
    public_key: Mapped[str]
    created_by: Mapped[Actor]
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]
