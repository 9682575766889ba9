"""Sessions that several take part in, and what they find; an agent sees those of its conversations."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MEMBERS = "conversation_id IN (SELECT federation_conversations())"
SEEN = "EXISTS (SELECT FROM agent_sessions s WHERE s.id = session_id OFFSET 0)"
BEFORE = dict.fromkeys(("SELECT", "INSERT", "UPDATE"), f"created_by = {ME}")
# Until now nobody wrote one; of such that somebody put there by hand, nobody but its initiator sees anything.
SESSIONS = {
    "SELECT": f"{MEMBERS} OR conversation_id IS NULL AND created_by = {ME}",
    "INSERT": f"{MEMBERS} AND created_by = {ME} AND status = 'active'",
    "UPDATE": f"{MEMBERS} OR conversation_id IS NULL AND created_by = {ME}",
}
# As in 0013: what `app` may do with the new tables, and with which rows.
APP = {
    "agent_session_members": {"SELECT": SEEN, "INSERT": f"actor = {ME} AND {SEEN}", "UPDATE": f"actor = {ME} AND {SEEN}"},
    "agent_findings": {"SELECT": SEEN, "INSERT": f"agent_id = {ME} AND {SEEN}"},
}
NOW = sa.text("clock_timestamp()")
WRITTEN_BY = """
    coalesce(
        (SELECT actor FROM events WHERE stream = 'session:' || agent_sessions.id AND type LIKE 'session.%' AND type <> 'session.joined'
         ORDER BY position DESC LIMIT 1),
        created_by)
"""


def upgrade() -> None:
    _widen_sessions()
    _make_tables()
    _guard()
    for verb, rows in SESSIONS.items():
        op.execute(f"DROP POLICY app_{verb.lower()} ON agent_sessions")
        _allow("agent_sessions", verb, rows)
    for table, verbs in APP.items():
        _secure(table, verbs)


def _widen_sessions() -> None:
    op.add_column("agent_sessions", sa.Column("conversation_id", sa.Text(), nullable=True))
    op.add_column("agent_sessions", sa.Column("slug", sa.Text(), nullable=True))
    op.add_column("agent_sessions", sa.Column("voters", postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column("agent_sessions", sa.Column("expertise", postgresql.JSONB(), server_default="{}", nullable=False))
    op.add_column("agent_sessions", sa.Column("outcome", postgresql.JSONB(), nullable=True))
    op.add_column("agent_sessions", sa.Column("completed_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("agent_sessions", sa.Column("updated_by", sa.Text(), nullable=True))
    op.execute(sa.update(sa.table("agent_sessions", sa.column("updated_by"))).values(updated_by=sa.literal_column(WRITTEN_BY)))
    op.alter_column("agent_sessions", "updated_by", nullable=False, server_default=sa.text(CURRENT_ACTOR))
    op.create_foreign_key(op.f("fk_agent_sessions_conversation_id_conversations"), "agent_sessions", "conversations", ["conversation_id"], ["id"])
    op.create_unique_constraint(op.f("uq_agent_sessions_conversation_id_slug"), "agent_sessions", ["conversation_id", "slug"])
    op.create_index(op.f("ix_agent_sessions_slug"), "agent_sessions", ["slug"])
    # What is open there is looked for by session.
    op.create_index(op.f("ix_agent_tasks_session_id"), "agent_tasks", ["session_id"])


def _make_tables() -> None:
    op.create_table(
        "agent_session_members",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.Column("focus", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["agent_sessions.id"], name=op.f("fk_agent_session_members_session_id_agent_sessions")),
        sa.PrimaryKeyConstraint("session_id", "actor", name=op.f("pk_agent_session_members")),
    )
    op.create_table(
        "agent_findings",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("agent_id", sa.String(length=100), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.Column("finding_type", sa.String(length=50), nullable=False),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("hypothesis_id", sa.Uuid(), nullable=True),
        sa.Column("validates", sa.Boolean(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.CheckConstraint("finding_type IN ('observation', 'hypothesis', 'conclusion')", name=op.f("ck_agent_findings_finding_type")),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name=op.f("ck_agent_findings_confidence")),
        sa.CheckConstraint(
            "finding_type <> 'hypothesis' OR confidence IS NOT NULL AND hypothesis_id IS NULL", name=op.f("ck_agent_findings_hypothesis")
        ),
        sa.CheckConstraint(
            "validates IS NULL OR hypothesis_id IS NOT NULL AND finding_type = 'conclusion'", name=op.f("ck_agent_findings_validates")
        ),
        sa.ForeignKeyConstraint(["session_id"], ["agent_sessions.id"], name=op.f("fk_agent_findings_session_id_agent_sessions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_findings")),
        sa.UniqueConstraint("session_id", "position", name=op.f("uq_agent_findings_session_id_position")),
        sa.UniqueConstraint("session_id", "id", name=op.f("uq_agent_findings_session_id_id")),
    )
    op.create_foreign_key(
        op.f("fk_agent_findings_session_id_hypothesis_id_agent_findings"),
        "agent_findings",
        "agent_findings",
        ["session_id", "hypothesis_id"],
        ["session_id", "id"],
    )
    validated = sa.text("validates IS NOT NULL")
    op.create_index("uq_agent_findings_validated", "agent_findings", ["hypothesis_id"], unique=True, postgresql_where=validated)


def _guard() -> None:
    """Make what keeps findings as they are, a session's voters and weights as they were when it began, and its context but for what is added."""
    refuse = "BEFORE UPDATE OR DELETE OR TRUNCATE ON agent_findings FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    op.execute(f"CREATE TRIGGER agent_findings_append_only {refuse}")
    op.execute(
        """
        CREATE FUNCTION guard_session() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.id, OLD.conversation_id, OLD.slug, OLD.voters, OLD.expertise, OLD.created_by, OLD.created_at)
                    IS DISTINCT FROM (NEW.id, NEW.conversation_id, NEW.slug, NEW.voters, NEW.expertise, NEW.created_by, NEW.created_at)
                OR OLD.context <> NEW.context - ARRAY(SELECT jsonb_object_keys(NEW.context) EXCEPT SELECT jsonb_object_keys(OLD.context)) THEN
                RAISE EXCEPTION 'to a session only context is added' USING ERRCODE = 'insufficient_privilege';
            END IF;
            IF OLD.status <> 'active' AND (OLD.status, OLD.outcome, OLD.completed_at, OLD.context)
                    IS DISTINCT FROM (NEW.status, NEW.outcome, NEW.completed_at, NEW.context) THEN
                RAISE EXCEPTION 'a session that was completed stays completed' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute("CREATE TRIGGER agent_sessions_guarded BEFORE UPDATE ON agent_sessions FOR EACH ROW EXECUTE FUNCTION guard_session()")


def _secure(table: str, verbs: dict[str, str]) -> None:
    op.execute(f"GRANT {', '.join(verbs)} ON {table} TO federation_app, federation_service")
    op.execute(f"GRANT SELECT ON {table} TO federation_auditor")
    for verb, rows in verbs.items():
        _allow(table, verb, rows)
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


def _allow(table: str, verb: str, rows: str) -> None:
    checked = f"WITH CHECK ({rows})" if verb == "INSERT" else f"USING ({rows})"
    op.execute(f"CREATE POLICY app_{verb.lower()} ON {table} FOR {verb} TO federation_app {checked}")


def downgrade() -> None:
    op.drop_table("agent_findings")
    op.drop_table("agent_session_members")
    op.execute("DROP TRIGGER agent_sessions_guarded ON agent_sessions")
    op.execute("DROP FUNCTION guard_session()")
    for verb, rows in BEFORE.items():
        op.execute(f"DROP POLICY app_{verb.lower()} ON agent_sessions")
        _allow("agent_sessions", verb, rows)
    op.drop_index(op.f("ix_agent_tasks_session_id"), "agent_tasks")
    op.drop_index(op.f("ix_agent_sessions_slug"), "agent_sessions")
    op.drop_constraint(op.f("uq_agent_sessions_conversation_id_slug"), "agent_sessions")
    op.drop_constraint(op.f("fk_agent_sessions_conversation_id_conversations"), "agent_sessions")
    for column in ("updated_by", "completed_at", "outcome", "expertise", "voters", "slug", "conversation_id"):
        op.drop_column("agent_sessions", column)
