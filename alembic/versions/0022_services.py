"""The services of the program itself, with their role and the keys that sign for them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0022"
down_revision: str | None = "0021"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"


def upgrade() -> None:
    op.create_table(
        "services",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("signer", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["signer"], ["signers.identity"], name=op.f("fk_services_signer_signers")),
        sa.PrimaryKeyConstraint("name", "signer", name=op.f("pk_services")),
    )
    # As with `signers`: what agents ask for needs nothing of it.
    op.execute("GRANT SELECT, INSERT ON services TO federation_service")
    op.execute("GRANT SELECT ON services TO federation_auditor")
    op.execute("CREATE POLICY service ON services TO federation_service USING (true) WITH CHECK (true)")
    op.execute("CREATE POLICY auditor ON services FOR SELECT TO federation_auditor USING (true)")
    op.execute(
        """
        DO $$ BEGIN
            EXECUTE format('CREATE POLICY owner ON services TO %I USING (true) WITH CHECK (true)',
                (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'services'::regclass));
        END $$
        """
    )
    op.execute("ALTER TABLE services ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("services")
