"""Old private memories of one subject are summed up in one that cites them: each knows the one in which it is."""

import sqlalchemy as sa
from alembic import op

revision: str = "0035"
down_revision: str | None = "0034"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    # No foreign key: where a summary is forgotten, that there was one keeps what it was made from out of another.
    op.add_column("memories", sa.Column("summary_id", sa.Uuid(), nullable=True))
    op.create_index("ix_memories_summary_id", "memories", ["summary_id"], postgresql_where=sa.text("summary_id IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("ix_memories_summary_id", "memories")
    op.drop_column("memories", "summary_id")
