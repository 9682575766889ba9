"""Claims with fencing tokens, and the line of those who wait for one."""

from datetime import datetime

from sqlalchemy import BigInteger, Identity, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, UpdatedBy


class Claim(Base):
    """Who holds a resource until when; the fencing token grows with each change of hands and never falls."""

    __tablename__ = "claims"
    __table_args__ = (
        # All that lie in a folder are next to each other in it.
        Index("ix_claims_resource", "resource", postgresql_ops={"resource": "text_pattern_ops"}),
        Index("ix_claims_held_by", "holder", postgresql_where=text("released_at IS NULL")),
    )

    resource: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    fencing_token: Mapped[int] = mapped_column(BigInteger)
    description: Mapped[str]
    acquired_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    released_at: Mapped[datetime | None]
    updated_by: Mapped[UpdatedBy]


class Waiter(Base):
    """Somebody's place in the line for a resource; whose presence is over is passed by, and keeps the place for a while."""

    __tablename__ = "claim_waiters"
    __table_args__ = (
        UniqueConstraint("resource", "holder"),
        Index("ix_claim_waiters_resource", "resource", postgresql_ops={"resource": "text_pattern_ops"}),
    )

    # In the order of arrival: among those whose resources overlap one comes after the other.
    place: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    resource: Mapped[str]
    holder: Mapped[str]
    since: Mapped[CreatedAt]
    present_until: Mapped[datetime]
    updated_by: Mapped[UpdatedBy]
