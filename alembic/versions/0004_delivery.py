"""Deliveries tell which message they were of; unfinished executions have an index of their own, and each may name its affinity."""

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

UNFINISHED = sa.text("outcome IS NULL AND cancelled_at IS NULL")


def upgrade() -> None:
    for name in ("retries", "returns"):
        op.add_column("execution_deliveries", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.add_column("executions", sa.Column("affinity", sa.Text(), nullable=True))
    op.drop_index("ix_executions_node_sent_at", table_name="executions")
    op.create_index("ix_executions_unfinished", "executions", ["node", "sent_at"], postgresql_where=UNFINISHED)


def downgrade() -> None:
    op.drop_index("ix_executions_unfinished", table_name="executions", postgresql_where=UNFINISHED)
    op.create_index("ix_executions_node_sent_at", "executions", ["node", "sent_at"])
    op.drop_column("executions", "affinity")
    for name in ("returns", "retries"):
        op.drop_column("execution_deliveries", name)
