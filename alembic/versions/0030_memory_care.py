"""Memories that have no vector are found, with the executions that should have embedded them; operators remove what agents remembered for others."""

import sqlalchemy as sa
from alembic import op

revision: str = "0030"
down_revision: str | None = "0029"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    settles = sa.text("task_name = 'federation.tasks.memories.settle'")
    op.create_index("ix_executions_memory", "executions", [sa.text("(kwargs ->> 'memory_id')"), "created_at"], postgresql_where=settles)
    op.create_index("ix_memories_unembedded", "memories", ["created_at"], postgresql_where=sa.text("vector_at IS NULL"))
    op.execute("GRANT DELETE ON memories TO federation_service")


def downgrade() -> None:
    op.execute("REVOKE DELETE ON memories FROM federation_service")
    op.drop_index("ix_memories_unembedded", "memories")
    op.drop_index("ix_executions_memory", "executions")
