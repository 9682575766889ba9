"""What was sent again from the quarantine, who wrote a claim last, and for the auditor whose tokens there are, without their hashes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None

# All of a token but its hash.
SEEN = "id, agent, created_by, created_at, expires_at, revoked_at, updated_by"
CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"


def upgrade() -> None:
    # A claim ends by another hand than the holder's when its task is cancelled.
    op.add_column("claims", sa.Column("updated_by", sa.Text(), nullable=True))
    last = "SELECT actor FROM events WHERE stream = 'claim:' || claims.resource ORDER BY position DESC LIMIT 1"
    op.execute(f"UPDATE claims SET updated_by = coalesce(({last}), holder)")  # noqa: S608 - it is ours
    op.alter_column("claims", "updated_by", nullable=False, server_default=sa.text(CURRENT_ACTOR))
    op.create_table(
        "redrives",
        sa.Column("quarantine_id", sa.Uuid(), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.ForeignKeyConstraint(["quarantine_id"], ["quarantine.id"], name=op.f("fk_redrives_quarantine_id_quarantine")),
        sa.PrimaryKeyConstraint("quarantine_id", name=op.f("pk_redrives")),
    )
    op.create_index(op.f("ix_redrives_execution_id"), "redrives", ["execution_id"])
    op.execute("GRANT SELECT, INSERT ON redrives TO federation_app, federation_service")
    op.execute("GRANT SELECT ON redrives TO federation_auditor")
    op.execute(f"GRANT SELECT ({SEEN}) ON agent_tokens TO federation_auditor")


def downgrade() -> None:
    op.execute(f"REVOKE SELECT ({SEEN}) ON agent_tokens FROM federation_auditor")  # noqa: S608 - SEEN is ours
    op.drop_table("redrives")
    op.drop_column("claims", "updated_by")
