"""What an operator has looked at in the quarantine, and wants nothing done about."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0023"
down_revision: str | None = "0022"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"


def upgrade() -> None:
    op.create_table(
        "dismissals",
        sa.Column("quarantine_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.ForeignKeyConstraint(["quarantine_id"], ["quarantine.id"], name=op.f("fk_dismissals_quarantine_id_quarantine")),
        sa.PrimaryKeyConstraint("quarantine_id", name=op.f("pk_dismissals")),
    )
    # As in 0013; agents have nothing to do with it.
    op.execute("GRANT SELECT, INSERT ON dismissals TO federation_service")
    op.execute("GRANT SELECT ON dismissals TO federation_auditor")
    op.execute("CREATE POLICY service ON dismissals TO federation_service USING (true) WITH CHECK (true)")
    op.execute("CREATE POLICY auditor ON dismissals FOR SELECT TO federation_auditor USING (true)")
    op.execute(
        """
        DO $$ BEGIN
            EXECUTE format('CREATE POLICY owner ON dismissals TO %I USING (true) WITH CHECK (true)',
                (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'dismissals'::regclass));
        END $$
        """
    )
    op.execute("ALTER TABLE dismissals ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("dismissals")
