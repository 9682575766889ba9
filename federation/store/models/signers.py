"""Whose keys sign executions, and for which services of the program: public halves only; one is revoked and never replaced."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Actor, Base, CreatedAt, UpdatedBy


class Signer(Base):
    """A key that signs executions, by its SHA-256; what it signed after it was revoked, or before that and not yet run, does not run."""

    __tablename__ = "signers"
    __table_args__ = (CheckConstraint("identity ~ '^[0-9a-f]{64}$'", name="identity"),)

    identity: Mapped[str] = mapped_column(primary_key=True)
    # What it belongs to, such as `node:taichi`; one that lost its key has several.
    name: Mapped[str]
    public_key: Mapped[str]
    created_by: Mapped[Actor]
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]


class Service(Base):
    """A service of the program itself, and a key that signs for it: that of a part in which it acts."""

    __tablename__ = "services"

    # The name that it acts under, such as `service:relay`.
    name: Mapped[str] = mapped_column(primary_key=True)
    signer: Mapped[str] = mapped_column(ForeignKey("signers.identity"), primary_key=True)
    role: Mapped[str]
    created_by: Mapped[Actor]
    created_at: Mapped[CreatedAt]
