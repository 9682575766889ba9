"""What is copied to destinations of ActiveMQ for those who speak STOMP, and how far."""

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from federation.store.models.base import Base, CreatedAt, UpdatedBy


class Feed(Base):
    """A destination that is fed: with an agent's inbox, or, without an agent, with what is said to everybody; up to `position`."""

    __tablename__ = "feeds"

    destination: Mapped[str] = mapped_column(primary_key=True)
    agent: Mapped[str | None] = mapped_column(ForeignKey("agents.name", ondelete="CASCADE"), unique=True)
    position: Mapped[int] = mapped_column(BigInteger)
    # What nobody took for so long is not kept; it is in the inbox still.
    expires_s: Mapped[float]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_by: Mapped[UpdatedBy]
