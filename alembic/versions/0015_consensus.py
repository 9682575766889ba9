"""Votes: what is asked of whom, acknowledgements and ballots; an agent sees what others voted once a vote is closed, or where it is shown."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MEMBERS = "conversation_id IN (SELECT federation_conversations())"
SEEN = "EXISTS (SELECT FROM consensus c WHERE c.id = consensus_id OFFSET 0)"
TOLD = "EXISTS (SELECT FROM consensus c WHERE c.id = consensus_id AND (c.shown OR c.state <> 'open') OFFSET 0)"
# As in 0013: what `app` may do, and with which rows. Only the program ends a vote.
APP = {
    "consensus": {
        "SELECT": MEMBERS,
        "INSERT": f"{MEMBERS} AND created_by = {ME} AND state = 'open'",
        "UPDATE": f"created_by = {ME} AND state = 'open'",
    },
    "consensus_acks": {"SELECT": SEEN, "INSERT": f"actor = {ME} AND {SEEN}"},
    "ballots": {"SELECT": f"actor = {ME} OR {TOLD}", "INSERT": f"actor = {ME} AND {SEEN}"},
}
UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
BEFORE = f"""
    actor = {ME} OR subject LIKE 'task:%'
    AND EXISTS (SELECT FROM agent_tasks t WHERE t.id = CASE WHEN substr(subject, 6) ~ {UUID} THEN substr(subject, 6)::uuid END)
"""
STATEMENTS = f"""
    {BEFORE} OR subject LIKE 'consensus:%' AND EXISTS (
        SELECT FROM consensus c
        WHERE c.id = CASE WHEN split_part(subject, ':', 2) ~ {UUID} THEN split_part(subject, ':', 2)::uuid END
            AND (c.shown OR c.state <> 'open')
    )
"""
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    _make_consensus()
    op.create_table(
        "consensus_acks",
        sa.Column("consensus_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.Column("options_hash", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["consensus_id"], ["consensus.id"], name=op.f("fk_consensus_acks_consensus_id_consensus")),
        sa.PrimaryKeyConstraint("consensus_id", "revision", "actor", name=op.f("pk_consensus_acks")),
    )
    op.create_table(
        "ballots",
        sa.Column("consensus_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.Column("response", postgresql.JSONB(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["consensus_id"], ["consensus.id"], name=op.f("fk_ballots_consensus_id_consensus")),
        sa.PrimaryKeyConstraint("consensus_id", "revision", "actor", name=op.f("pk_ballots")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON consensus TO federation_service")
    op.execute("GRANT SELECT, INSERT ON consensus_acks, ballots TO federation_service")
    for table in ("consensus_acks", "ballots"):
        refuse = f"BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        op.execute(f"CREATE TRIGGER {table}_append_only {refuse}")
    _guard_consensus()
    _secure()
    _show_statements(STATEMENTS)
    _make_function()


def _make_consensus() -> None:
    op.create_table(
        "consensus",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("proposal", postgresql.JSONB(), nullable=False),
        sa.Column("options_hash", sa.Text(), nullable=False),
        sa.Column("shown", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=True),
        sa.Column("deadline", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("outcome", postgresql.JSONB(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.Column("closed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("applied_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("updated_by", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.CheckConstraint("state IN ('open', 'decided', 'undecided', 'withdrawn')", name=op.f("ck_consensus_state")),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_consensus_conversation_id_conversations")),
        sa.ForeignKeyConstraint(["task_id"], ["agent_tasks.id"], name=op.f("fk_consensus_task_id_agent_tasks")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consensus")),
        sa.UniqueConstraint("conversation_id", "slug", name=op.f("uq_consensus_conversation_id_slug")),
    )
    op.create_index(op.f("ix_consensus_slug"), "consensus", ["slug"])
    op.create_index(op.f("ix_consensus_task_id"), "consensus", ["task_id"])
    is_open = sa.text("state = 'open'")
    op.create_index("ix_consensus_open", "consensus", ["deadline"], postgresql_where=is_open)
    op.create_index("uq_consensus_open_task", "consensus", ["task_id"], unique=True, postgresql_where=is_open)
    unapplied = sa.text("state <> 'open' AND task_id IS NOT NULL AND applied_at IS NULL")
    op.create_index("ix_consensus_unapplied", "consensus", ["closed_at"], postgresql_where=unapplied)


def _guard_consensus() -> None:
    """Make what keeps the voters as they were when it was asked, and what was closed closed."""
    op.execute(
        """
        CREATE FUNCTION guard_consensus() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.id, OLD.conversation_id, OLD.slug, OLD.shown, OLD.task_id, OLD.deadline, OLD.created_by, OLD.created_at)
                    IS DISTINCT FROM (NEW.id, NEW.conversation_id, NEW.slug, NEW.shown, NEW.task_id, NEW.deadline, NEW.created_by, NEW.created_at)
                OR OLD.proposal - '{revision,question,options}'::text[] <> NEW.proposal - '{revision,question,options}'::text[]
                OR NEW.revision < OLD.revision
                OR NEW.revision = OLD.revision AND (NEW.options_hash, NEW.proposal) IS DISTINCT FROM (OLD.options_hash, OLD.proposal) THEN
                RAISE EXCEPTION 'of a vote only question and options change, with the revision' USING ERRCODE = 'insufficient_privilege';
            END IF;
            IF OLD.state <> 'open' AND (OLD.state, OLD.outcome, OLD.closed_at, OLD.revision)
                    IS DISTINCT FROM (NEW.state, NEW.outcome, NEW.closed_at, NEW.revision) THEN
                RAISE EXCEPTION 'a vote that was closed stays closed' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute("CREATE TRIGGER consensus_guarded BEFORE UPDATE ON consensus FOR EACH ROW EXECUTE FUNCTION guard_consensus()")


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


def _show_statements(rows: str) -> None:
    op.execute("DROP POLICY app_select ON statements")
    op.execute(f"CREATE POLICY app_select ON statements FOR SELECT TO federation_app USING ({rows})")


def _make_function() -> None:
    """Make what tells the members of a conversation whose ballots there are, and nothing of what they say."""
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        f"""
        CREATE FUNCTION federation_voted(wanted uuid) RETURNS SETOF text LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
            SELECT b.actor FROM consensus c JOIN ballots b ON b.consensus_id = c.id AND b.revision = c.revision
            WHERE c.id = wanted AND c.conversation_id IN (SELECT federation_conversations())
        $$
        """  # noqa: S608 - it is ours
    )
    op.execute("REVOKE ALL ON FUNCTION federation_voted(uuid) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION federation_voted(uuid) TO federation_app, federation_service")


def downgrade() -> None:
    op.execute("DROP FUNCTION federation_voted(uuid)")
    _show_statements(BEFORE)
    op.drop_table("ballots")
    op.drop_table("consensus_acks")
    op.drop_table("consensus")
    op.execute("DROP FUNCTION guard_consensus()")
