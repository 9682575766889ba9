"""Who wrote each row: `actor` where a row stays as it is, `updated_by` where it may change; and since when a node is lost."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"

# Who wrote the rows that are there: the event that tells of the write says it, or the one part of the program that writes so.
WRITTEN_BY = {
    ("agent_tokens", "updated_by"): """
        coalesce(
            (SELECT actor FROM events
             WHERE stream = 'agent:' || agent_tokens.agent AND type = 'agent.tokens_revoked' AND events.created_at >= agent_tokens.revoked_at
             ORDER BY position LIMIT 1),
            created_by)
    """,
    ("agent_tasks", "updated_by"): """
        coalesce((SELECT actor FROM events WHERE stream = 'task:' || agent_tasks.id ORDER BY position DESC LIMIT 1), created_by)
    """,
    ("executions", "updated_by"): """
        CASE WHEN outcome IS NOT NULL THEN 'service:beat'
             WHEN cancelled_at IS NULL AND sent_at IS NOT NULL THEN 'service:outbox'
             ELSE actor END
    """,
    ("outbox", "updated_by"): """
        CASE WHEN tried_at IS NOT NULL THEN 'service:outbox'
             ELSE (SELECT executions.actor FROM executions WHERE executions.id = outbox.execution_id) END
    """,
    ("message_receipts", "updated_by"): """
        CASE WHEN read_at IS NOT NULL THEN agent
             ELSE (SELECT messages.sender FROM messages WHERE messages.id = message_receipts.message_id) END
    """,
    ("execution_deliveries", "actor"): """
        'node:' || coalesce(
            (SELECT executions.node FROM executions WHERE executions.id = execution_deliveries.execution_id),
            split_part(worker, '@', 1))
    """,
    ("quarantine", "actor"): "'node:' || queue",
    ("nodes", "updated_by"): "'node:' || name",
    # All work for a run is done in the name of who asked for it.
    ("index_runs", "updated_by"): "created_by",
    ("index_batches", "updated_by"): "(SELECT index_runs.created_by FROM index_runs WHERE index_runs.id = index_batches.run_id)",
    ("vector_changes", "updated_by"): "(SELECT index_runs.created_by FROM index_runs WHERE index_runs.id = vector_changes.run_id)",
    ("documents", "updated_by"): "created_by",
    ("chunks", "updated_by"): "(SELECT documents.created_by FROM documents WHERE documents.id = chunks.document_id)",
}


def upgrade() -> None:
    for (table, column), of_rows_that_are_there in WRITTEN_BY.items():
        op.add_column(table, sa.Column(column, sa.Text(), nullable=True))
        op.execute(sa.update(sa.table(table, sa.column(column))).values({column: sa.literal_column(of_rows_that_are_there)}))
        op.alter_column(table, column, nullable=False, server_default=sa.text(CURRENT_ACTOR))
    op.add_column("nodes", sa.Column("lost_at", postgresql.TIMESTAMP(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("nodes", "lost_at")
    for table, column in WRITTEN_BY:
        op.drop_column(table, column)
