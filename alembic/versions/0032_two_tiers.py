"""Chunks are found by their words before the better model has embedded them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0032"
down_revision: str | None = "0031"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("chunks", sa.Column("words_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.create_index("ix_chunks_unsearchable", "chunks", ["document_id"], unique=False, postgresql_where="words_at IS NULL")
    # LanceDB has other tables now: they are filled when a folder is indexed again.
    op.execute("UPDATE chunks SET vector_at = NULL")


def downgrade() -> None:
    op.execute("UPDATE chunks SET vector_at = NULL")
    op.drop_index("ix_chunks_unsearchable", table_name="chunks", postgresql_where="words_at IS NULL")
    op.drop_column("chunks", "words_at")
