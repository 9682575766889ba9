"""Messages to a role or to whoever can do something, typed messages, what agents can do, feeds for STOMP, and what everybody was doing when."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MINE = "(SELECT federation_conversations())"
MEMBERS = f"conversation_id IN {MINE}"
MY_ROLE = f"(SELECT 'role:' || me.role FROM agents me WHERE me.name = {ME})"  # noqa: S608 - it is ours
MY_MESSAGE = f"EXISTS (SELECT FROM messages m WHERE m.id = message_id AND m.sender = {ME} OFFSET 0)"
# What is for whoever can do something is put into the inbox of one who says later that he can, or who joins later, by any member: it reads nothing.
CAPABLE = """
    EXISTS (
        SELECT FROM messages m JOIN agent_capabilities c ON m.audience = 'capability:' || c.capability
        WHERE m.id = message_id AND c.agent = message_receipts.agent AND (
            m.conversation_id = 'commons'
            OR EXISTS (SELECT FROM conversation_members o WHERE o.conversation_id = m.conversation_id AND o.agent = message_receipts.agent)
        ) OFFSET 0
    )
"""
# As in 0013.
TAKES_PART = """
    m.added_by = m.agent OR m.agent = (
        SELECT said.sender FROM messages said WHERE said.conversation_id = m.conversation_id AND said.sender >= m.agent ORDER BY said.sender LIMIT 1
    )
"""
SEEN_STATE = f"""
    kind = 'node' OR visibility = 'all' OR subject = {ME}
    OR visibility = 'role' AND subject IN (SELECT other.name FROM agents me JOIN agents other ON other.role = me.role WHERE me.name = {ME})
    OR visibility = 'members'
        AND EXISTS (SELECT FROM conversation_members m WHERE m.agent = subject AND m.conversation_id <> 'commons' AND ({TAKES_PART}) OFFSET 0)
"""  # noqa: S608 - it is ours
MY_STATE = f"kind = 'agent' AND subject = {ME}"

# As in 0013: what `app` may do with the new tables, and with which rows.
APP: dict[str, dict[str, str]] = {
    "agent_capabilities": {"SELECT": f"{ME} IS NOT NULL", "INSERT": f"agent = {ME}", "DELETE": f"agent = {ME}"},
    # What is fed where is the operators' to say.
    "feeds": {},
    "cop_history": {"SELECT": SEEN_STATE, "INSERT": MY_STATE},
}
SERVICE = {"agent_capabilities": "SELECT, INSERT, DELETE", "feeds": "SELECT, INSERT, UPDATE, DELETE", "cop_history": "SELECT, INSERT"}
BEFORE = {
    "messages": ("SELECT", f"{MEMBERS} AND (recipient IS NULL OR recipient = {ME} OR sender = {ME})"),
    "message_receipts": ("INSERT", MY_MESSAGE),
}
NOW = {
    # Who is of a role was said by an operator; what one can do everybody says himself, so what is for whoever can is no secret among members.
    "messages": (
        "SELECT",
        f"{MEMBERS} AND (sender = {ME} OR recipient = {ME} OR recipient IS NULL AND "
        f"(audience IS NULL OR audience LIKE 'capability:%' OR audience = {MY_ROLE}))",
    ),
    "message_receipts": ("INSERT", f"{MY_MESSAGE} OR {CAPABLE}"),
}
OLDER_TYPES = ("chat", "task", "result", "status")
TYPES = (*OLDER_TYPES, "finding", "action", "request", "response")
ACTIONS, KINDS, LEVELS = ("EXECUTING", "IDLE", "WAITING"), ("agent", "node"), ("all", "members", "role", "nobody")


def upgrade() -> None:
    _widen_messages()
    _add_capabilities()
    _add_feeds()
    _add_history()
    _make_function()
    for table, verbs in APP.items():
        _secure(table, verbs)
    for table, (verb, rows) in NOW.items():
        _replace(table, verb, rows)


def _moment(name: str, *, default: bool = True) -> sa.Column[object]:
    server = sa.text("clock_timestamp()") if default else None
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), server_default=server, nullable=False)


def _actor(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(map(repr, values))})"


def _widen_messages() -> None:
    op.add_column("messages", sa.Column("audience", sa.Text(), nullable=True))
    op.drop_constraint(op.f("ck_messages_message_type"), "messages")
    op.create_check_constraint(op.f("ck_messages_message_type"), "messages", _one_of("message_type", TYPES))
    op.create_check_constraint(op.f("ck_messages_audience"), "messages", "audience IS NULL OR audience ~ '^(role|capability):' AND recipient IS NULL")
    op.create_index("ix_messages_audience", "messages", ["audience"], postgresql_where="audience IS NOT NULL")
    # Of all who were asked, one succeeds: the first.
    succeeded = "message_type = 'response' AND (data ->> 'status') = 'success'"
    op.create_index("ix_messages_one_success", "messages", ["reply_to"], unique=True, postgresql_where=succeeded)
    op.create_index("ix_messages_one_response", "messages", ["reply_to", "sender"], unique=True, postgresql_where="message_type = 'response'")


def _add_capabilities() -> None:
    op.create_table(
        "agent_capabilities",
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("capability", sa.Text(), nullable=False),
        _actor("created_by"),
        _moment("created_at"),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_agent_capabilities_agent_agents"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("agent", "capability", name=op.f("pk_agent_capabilities")),
    )
    op.create_index(op.f("ix_agent_capabilities_capability"), "agent_capabilities", ["capability"])


def _add_feeds() -> None:
    op.create_table(
        "feeds",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        _moment("created_at"),
        _actor("updated_by"),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_feeds_agent_agents"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_feeds")),
        sa.UniqueConstraint("agent", name=op.f("uq_feeds_agent")),
    )


def _add_history() -> None:
    # Which transaction wrote a state last: what a former look could not see is what changed since.
    op.add_column(
        "cop_states", sa.Column("changed_in", sa.BigInteger(), server_default=sa.text("(pg_current_xact_id())::text::bigint"), nullable=False)
    )
    op.create_table(
        "cop_history",
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("thinking", sa.Text(), nullable=True),
        sa.Column("wondering", sa.Text(), nullable=True),
        sa.Column("offering", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        _moment("at"),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.CheckConstraint(_one_of("kind", KINDS), name=op.f("ck_cop_history_kind")),
        sa.CheckConstraint(_one_of("action", ACTIONS), name=op.f("ck_cop_history_action")),
        sa.CheckConstraint(_one_of("visibility", LEVELS), name=op.f("ck_cop_history_visibility")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_cop_history")),
    )
    op.create_index("ix_cop_history_subject", "cop_history", ["kind", "subject", "at"])
    op.execute(
        """
        INSERT INTO cop_history (kind, subject, summary, action, thinking, wondering, offering, data, visibility, at, updated_by)
        SELECT kind, subject, summary, action, thinking, wondering, offering, data, visibility, updated_at, updated_by
        FROM cop_states ORDER BY updated_at
        """
    )


def _make_function() -> None:
    """Make what tells who has answered a request, which of all who were asked only who asked could see; its id has only who saw it."""
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        f"""
        CREATE FUNCTION federation_answered_by(request uuid) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
        SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
            SELECT sender FROM messages WHERE reply_to = request AND message_type = 'response' AND (data ->> 'status') = 'success'
        $$
        """  # noqa: S608 - it is ours
    )
    op.execute("REVOKE ALL ON FUNCTION federation_answered_by(uuid) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION federation_answered_by(uuid) TO federation_app, federation_service")


def _secure(table: str, verbs: dict[str, str]) -> None:
    if verbs:
        op.execute(f"GRANT {', '.join(verbs)} ON {table} TO federation_app")
    op.execute(f"GRANT {SERVICE[table]} ON {table} TO federation_service")
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


def _replace(table: str, verb: str, rows: str) -> None:
    op.execute(f"DROP POLICY app_{verb.lower()} ON {table}")
    _allow(table, verb, rows)


def downgrade() -> None:
    # The older program would show to all members what was said to a role: it stays its sender's alone.
    op.execute("UPDATE messages SET recipient = sender, audience = NULL WHERE audience LIKE 'role:%'")
    op.execute("DELETE FROM message_receipts r USING messages m WHERE m.id = r.message_id AND m.recipient = m.sender")
    for table, (verb, rows) in BEFORE.items():
        _replace(table, verb, rows)
    op.execute("DROP FUNCTION federation_answered_by(uuid)")
    op.drop_table("cop_history")
    op.drop_column("cop_states", "changed_in")
    op.drop_table("feeds")
    op.drop_table("agent_capabilities")
    for index in ("ix_messages_one_response", "ix_messages_one_success", "ix_messages_audience"):
        op.drop_index(index, "messages")
    op.drop_constraint(op.f("ck_messages_audience"), "messages")
    op.drop_column("messages", "audience")
    op.drop_constraint(op.f("ck_messages_message_type"), "messages")
    op.execute(f"UPDATE messages SET message_type = 'chat' WHERE NOT {_one_of('message_type', OLDER_TYPES)}")  # noqa: S608 - it is ours
    op.create_check_constraint(op.f("ck_messages_message_type"), "messages", _one_of("message_type", OLDER_TYPES))
