"""Whose keys agents sign with, and what was stated so."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"
WRITERS = "federation_app, federation_service"


def upgrade() -> None:
    op.create_table(
        "agent_keys",
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("updated_by", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_agent_keys_agent_agents")),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_agent_keys")),
    )
    op.create_index(op.f("ix_agent_keys_agent"), "agent_keys", ["agent"])
    op.execute(f"GRANT SELECT, INSERT, UPDATE (revoked_at, updated_by) ON agent_keys TO {WRITERS}")
    op.execute("GRANT SELECT ON agent_keys TO federation_auditor")
    op.execute(
        """
        CREATE FUNCTION only_revoke_agent_key() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'UPDATE' OR OLD.revoked_at IS NOT NULL OR NEW.revoked_at IS NULL
                OR (OLD.identity, OLD.agent, OLD.public_key, OLD.created_by, OLD.created_at)
                    IS DISTINCT FROM (NEW.identity, NEW.agent, NEW.public_key, NEW.created_by, NEW.created_at) THEN
                RAISE EXCEPTION 'a key is revoked once, and not changed otherwise' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    only_revoke = "BEFORE UPDATE OR DELETE ON agent_keys FOR EACH ROW EXECUTE FUNCTION only_revoke_agent_key()"
    op.execute(f"CREATE TRIGGER agent_keys_only_revoked {only_revoke}")
    op.execute("CREATE TRIGGER agent_keys_not_truncated BEFORE TRUNCATE ON agent_keys FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()")
    op.create_table(
        "statements",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("attested_by", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("mode IN ('signed', 'attested')", name=op.f("ck_statements_mode")),
        sa.CheckConstraint("(mode = 'attested') = (attested_by IS NOT NULL)", name=op.f("ck_statements_attested_by")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_statements")),
        sa.UniqueConstraint("key", "nonce", name=op.f("uq_statements_key_nonce")),
    )
    op.create_index("ix_statements_subject_actor", "statements", ["subject", "actor"])
    op.execute(f"GRANT SELECT, INSERT ON statements TO {WRITERS}")
    op.execute("GRANT SELECT ON statements TO federation_auditor")
    refuse = "BEFORE UPDATE OR DELETE OR TRUNCATE ON statements FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    op.execute(f"CREATE TRIGGER statements_append_only {refuse}")


def downgrade() -> None:
    op.drop_table("statements")
    op.drop_table("agent_keys")
    op.execute("DROP FUNCTION only_revoke_agent_key()")
