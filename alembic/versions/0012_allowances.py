"""How much each agent has taken of what is limited by time, and an index that finds its tasks which have not ended."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "allowances",
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("used_until", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("agent", "kind", name=op.f("pk_allowances")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON allowances TO federation_app, federation_service")
    op.execute("GRANT SELECT ON allowances TO federation_auditor")
    is_open = sa.text("status NOT IN ('completed', 'failed', 'cancelled')")
    op.create_index("ix_agent_tasks_open", "agent_tasks", ["created_by"], postgresql_where=is_open)


def downgrade() -> None:
    op.drop_index("ix_agent_tasks_open", table_name="agent_tasks")
    op.drop_table("allowances")
