"""Whose keys agents sign with, and what was stated so."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
SEEN_SUBJECT = f"EXISTS (SELECT FROM agent_tasks t WHERE t.id = CASE WHEN substr(subject, 6) ~ {UUID} THEN substr(subject, 6)::uuid END)"
# As in 0013: what `app` may do, and with which rows.
APP = {
    "agent_keys": {"SELECT": f"agent = {ME}", "INSERT": f"agent = {ME} AND created_by = {ME}"},
    "statements": {"SELECT": f"actor = {ME} OR subject LIKE 'task:%' AND {SEEN_SUBJECT}", "INSERT": f"actor = {ME}"},
}


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
    op.execute("GRANT SELECT, INSERT, UPDATE (revoked_at, updated_by) ON agent_keys TO federation_service")
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
    op.execute("GRANT SELECT, INSERT ON statements TO federation_service")
    refuse = "BEFORE UPDATE OR DELETE OR TRUNCATE ON statements FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    op.execute(f"CREATE TRIGGER statements_append_only {refuse}")
    _secure()
    _make_key_function()


def _secure() -> None:
    for table, verbs in APP.items():
        op.execute(f"GRANT {', '.join(verbs)} ON {table} TO federation_app")
        op.execute(f"GRANT SELECT ON {table} TO federation_auditor")
        for verb, rows in verbs.items():
            checked = f"WITH CHECK ({rows})" if verb == "INSERT" else f"USING ({rows})"
            op.execute(f"CREATE POLICY app_{verb.lower()} ON {table} FOR {verb} TO federation_app {checked}")
        op.execute(f"CREATE POLICY service ON {table} TO federation_service USING (true) WITH CHECK (true)")
        op.execute(f"CREATE POLICY auditor ON {table} FOR SELECT TO federation_auditor USING (true)")
        op.execute(
            f"""
            DO $$ BEGIN
                EXECUTE format('CREATE POLICY owner ON {table} TO %I USING (true) WITH CHECK (true)',
                    (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '{table}'::regclass));
            END $$
            """  # noqa: S608 - it is ours
        )
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def _make_key_function() -> None:
    """Make what tells whose a key is, an agent's or a part's, to whoever names it; it cannot be revoked before the caller's commit."""
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        f"""
        CREATE FUNCTION federation_key(wanted text, OUT whose text, OUT pem text, OUT ended_at timestamptz) RETURNS SETOF record
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
        BEGIN
            RETURN QUERY SELECT k.agent, k.public_key, k.revoked_at FROM agent_keys k WHERE k.identity = wanted FOR SHARE;
            IF NOT FOUND THEN
                RETURN QUERY SELECT s.name, s.public_key, s.revoked_at FROM signers s WHERE s.identity = wanted FOR SHARE;
            END IF;
        END $$
        """  # noqa: S608 - it is ours
    )
    op.execute("REVOKE ALL ON FUNCTION federation_key(text) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION federation_key(text) TO federation_app, federation_service")


def downgrade() -> None:
    op.execute("DROP FUNCTION federation_key(text)")
    op.drop_table("statements")
    op.drop_table("agent_keys")
    op.execute("DROP FUNCTION only_revoke_agent_key()")
