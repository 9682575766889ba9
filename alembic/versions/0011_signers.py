"""Whose keys sign executions, and which message of an execution each delivery was."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"


def upgrade() -> None:
    op.create_table(
        "signers",
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("updated_by", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_signers")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE (revoked_at, updated_by) ON signers TO federation_app, federation_service")
    op.execute("GRANT SELECT ON signers TO federation_auditor")
    # Rights alone would let whoever may revoke a key take that back, or put the moment elsewhere.
    op.execute(
        """
        CREATE FUNCTION only_revoke() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'UPDATE' OR OLD.revoked_at IS NOT NULL OR NEW.revoked_at IS NULL
                OR (OLD.identity, OLD.name, OLD.public_key, OLD.created_by, OLD.created_at)
                    IS DISTINCT FROM (NEW.identity, NEW.name, NEW.public_key, NEW.created_by, NEW.created_at) THEN
                RAISE EXCEPTION 'a signer is revoked once, and not changed otherwise' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute("CREATE TRIGGER signers_only_revoked BEFORE UPDATE OR DELETE ON signers FOR EACH ROW EXECUTE FUNCTION only_revoke()")
    op.execute("CREATE TRIGGER signers_not_truncated BEFORE TRUNCATE ON signers FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()")
    op.add_column("execution_deliveries", sa.Column("signature", sa.Text(), nullable=True))
    op.add_column("execution_deliveries", sa.Column("message_id", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("execution_deliveries", "message_id")
    op.drop_column("execution_deliveries", "signature")
    op.drop_table("signers")
    op.execute("DROP FUNCTION only_revoke()")
