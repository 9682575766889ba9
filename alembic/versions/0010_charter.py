"""Roles are those of the charter, and a task may await approval before it begins."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None

BEFORE = ("pending", "assigned", "running", "completed", "failed", "cancelled")


def _status_is_one_of(*values: str) -> None:
    op.drop_constraint("ck_agent_tasks_status", "agent_tasks")
    op.create_check_constraint(op.f("ck_agent_tasks_status"), "agent_tasks", f"status IN ({', '.join(map(repr, values))})")


def upgrade() -> None:
    # Which roles there are is the charter's to say, a file that the database does not know.
    op.drop_constraint("ck_agents_role", "agents")
    op.create_check_constraint(op.f("ck_agents_role"), "agents", "role ~ '^[a-z][a-z0-9_-]{0,39}$'")
    _status_is_one_of("awaiting_approval", *BEFORE)
    op.add_column("agent_tasks", sa.Column("requires_approval", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("agent_tasks", sa.Column("start_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("agent_tasks", sa.Column("decided_by", sa.Text(), nullable=True))
    op.add_column("agent_tasks", sa.Column("decision_reason", sa.Text(), nullable=True))
    op.create_index(op.f("ix_agent_tasks_awaiting_approval"), "agent_tasks", ["created_at"], postgresql_where=sa.text("status = 'awaiting_approval'"))
    op.execute(
        """
        UPDATE agent_tasks SET start_at = given.due_at
        FROM (SELECT agent_task_id, min(due_at) AS due_at FROM executions WHERE due_at IS NOT NULL GROUP BY agent_task_id) AS given
        WHERE given.agent_task_id = agent_tasks.id
        """
    )


def downgrade() -> None:
    # A program that knows no approval would let a task that awaits one begin.
    op.execute(
        """
        UPDATE agent_tasks SET status = 'cancelled', completed_at = clock_timestamp(),
            result = '{"cancelled_by": "migration 0010", "reason": "it awaited approval, which the older program does not know"}'
        WHERE status = 'awaiting_approval'
        """
    )
    op.drop_index("ix_agent_tasks_awaiting_approval", "agent_tasks")
    for column in ("requires_approval", "start_at", "decided_by", "decision_reason"):
        op.drop_column("agent_tasks", column)
    _status_is_one_of(*BEFORE)
    op.drop_constraint("ck_agents_role", "agents")
    # Agents of a team's own roles stay; the older program adds no more of them.
    op.execute(
        "ALTER TABLE agents ADD CONSTRAINT ck_agents_role CHECK (role IN ('lead', 'developer', 'analyst', 'human', 'observer', 'service')) NOT VALID"
    )
