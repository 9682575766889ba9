"""Row-level security: an agent's transactions, as the role `app`, see and write what this agent may; how far a picture of one's work is seen."""

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None

# In sub-selects, so that each is worked out once for a statement and not for each row.
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MINE = "(SELECT federation_conversations())"
ANYBODY = f"{ME} IS NOT NULL"

MEMBERS = f"conversation_id IN {MINE}"
# A row is looked for by its key, however many are asked for: with OFFSET it cannot become a list of all that the actor may see, which the
# planner would make whenever it expects more than a few rows. These look through the policies of the table that they ask.
SEEN_EXECUTION = "EXISTS (SELECT FROM executions e WHERE e.id = execution_id OFFSET 0)"
MY_MESSAGE = f"EXISTS (SELECT FROM messages m WHERE m.id = message_id AND m.sender = {ME} OFFSET 0)"
UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
SEEN_RESULT = f"EXISTS (SELECT FROM executions e WHERE e.id = CASE WHEN task_id ~ {UUID} THEN task_id::uuid END OFFSET 0)"
SEEN_CLAIM = f"""
    resource NOT LIKE 'task:%'
    OR EXISTS (SELECT FROM agent_tasks t WHERE t.id = CASE WHEN substr(resource, 6) ~ {UUID} THEN substr(resource, 6)::uuid END OFFSET 0)
"""
# Who opens a conversation is its first member; the conversation of two has no third.
OPENED = f"EXISTS (SELECT FROM conversations c WHERE c.id = conversation_id AND c.created_by = {ME} OFFSET 0)"
OF_TWO = "agent IN (split_part(conversation_id, ':', 2), split_part(conversation_id, ':', 3))"
# Whoever takes part in a conversation says so himself: by opening it, or by words there that the reader may read. That others made one a member
# opens nothing, or a stranger could do it. The first of all senders from that name on, because only the index has that order: asked for words of
# this one, the planner expects them among the first messages, and walks through all of them where one never spoke.
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

# What `app` may do with each table, and with which rows; where nothing stands it may not, whatever the row. Who deletes may see what he deletes.
APP: dict[str, dict[str, str]] = {
    "agents": {"SELECT": ANYBODY},
    "agent_tokens": {},
    "agent_sessions": dict.fromkeys(("SELECT", "INSERT", "UPDATE"), f"created_by = {ME}"),
    "allowances": dict.fromkeys(("SELECT", "INSERT", "UPDATE"), f"agent = {ME}"),
    "conversations": {"SELECT": f"id IN {MINE} OR created_by = {ME}", "INSERT": f"created_by = {ME}", "UPDATE": f"id IN {MINE}"},
    "conversation_members": {
        "SELECT": f"agent = {ME} OR {MEMBERS}",
        "INSERT": f"added_by = {ME} AND ({MEMBERS} OR {OPENED}) AND ({OF_TWO} OR conversation_id NOT LIKE 'direct:%')",
    },
    "messages": {"SELECT": f"{MEMBERS} AND (recipient IS NULL OR recipient = {ME} OR sender = {ME})", "INSERT": f"{MEMBERS} AND sender = {ME}"},
    "message_receipts": {"SELECT": f"agent = {ME} OR {MY_MESSAGE}", "INSERT": MY_MESSAGE, "UPDATE": f"agent = {ME}"},
    "summaries": {"SELECT": MEMBERS, "INSERT": f"{MEMBERS} AND created_by = {ME}"},
    "cop_states": {"SELECT": SEEN_STATE, "INSERT": MY_STATE, "UPDATE": MY_STATE},
    "agent_tasks": {"SELECT": MEMBERS, "INSERT": f"{MEMBERS} AND created_by = {ME}", "UPDATE": MEMBERS},
    "claims": dict.fromkeys(("SELECT", "INSERT", "UPDATE"), SEEN_CLAIM),
    # What others did is the auditor's to read.
    "events": dict.fromkeys(("SELECT", "INSERT"), f"actor = {ME}"),
    "event_order": {},
    "event_relay": {},
    "seals": {},
    # Names of streams hold those of conversations; positions are taken by a function.
    "streams": {},
    "executions": {
        **dict.fromkeys(("SELECT", "UPDATE"), f"actor = {ME} OR {MEMBERS}"),
        "INSERT": f"actor = {ME} AND (conversation_id IS NULL OR {MEMBERS})",
    },
    # Whose execution it is is not looked up at each recording: in a plan that was made while there were few, all of them are walked through. Who
    # enters another's has what was recorded sent once more, and a try that ended does not run.
    "outbox": {"SELECT": SEEN_EXECUTION, "INSERT": f"updated_by = {ME}", "DELETE": SEEN_EXECUTION},
    "execution_deliveries": {"SELECT": SEEN_EXECUTION},
    "execution_effects": dict.fromkeys(("SELECT", "INSERT"), f"actor = {ME}"),
    "quarantine": {"SELECT": SEEN_EXECUTION},
    "redrives": {"SELECT": SEEN_EXECUTION},
    "model_runs": dict.fromkeys(("SELECT", "INSERT"), f"actor = {ME}"),
    "nodes": {"SELECT": ANYBODY},
    "signers": {},
    # What is indexed is everybody's.
    **{table: dict.fromkeys(("SELECT", "INSERT", "UPDATE"), ANYBODY) for table in ("index_runs", "index_batches")},
    **{table: dict.fromkeys(("SELECT", "INSERT", "UPDATE", "DELETE"), ANYBODY) for table in ("documents", "chunks", "vector_changes")},
    "celery_results": {"SELECT": SEEN_RESULT},
    "celery_group_results": {},
    "celery_chords": {},
}
READ, ADDED, WRITTEN = "SELECT", "SELECT, INSERT", "SELECT, INSERT, UPDATE"
# Its rights before; of the tables that are left out here, what it has kept.
BEFORE = {
    READ: ("event_order", "event_relay", "seals"),
    ADDED: ("execution_deliveries", "quarantine", "redrives", "signers"),
    WRITTEN: ("agents", "agent_tokens", "conversation_members", "nodes", "streams"),
    f"{WRITTEN}, DELETE": ("outbox", "celery_results", "celery_group_results", "celery_chords"),
}
LEVELS = ("all", "members", "role", "nobody")


def upgrade() -> None:
    _add_columns()
    _make_functions()
    for table, verbs in APP.items():
        op.execute(f"REVOKE ALL ON {table} FROM federation_app")
        if verbs:
            op.execute(f"GRANT {', '.join(verbs)} ON {table} TO federation_app")
        for verb, rows in verbs.items():
            checked = f"WITH CHECK ({rows})" if verb == "INSERT" else f"USING ({rows})"
            op.execute(f"CREATE POLICY app_{verb.lower()} ON {table} FOR {verb} TO federation_app {checked}")
        op.execute(f"CREATE POLICY service ON {table} TO federation_service USING (true) WITH CHECK (true)")
        op.execute(f"CREATE POLICY auditor ON {table} FOR SELECT TO federation_auditor USING (true)")
        # Security is forced, so that the owner does not pass it by unawares; migrations and the functions above see all by this policy.
        op.execute(
            f"""
            DO $$ BEGIN
                EXECUTE format('CREATE POLICY owner ON {table} TO %I USING (true) WITH CHECK (true)',
                    (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '{table}'::regclass));
            END $$
            """  # noqa: S608 - it is ours
        )
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def _add_columns() -> None:
    op.create_index("ix_messages_said_by", "messages", ["conversation_id", "sender"])
    op.add_column("cop_states", sa.Column("visibility", sa.Text(), server_default="all", nullable=False))
    op.create_check_constraint(op.f("ck_cop_states_visibility"), "cop_states", f"visibility IN ({', '.join(map(repr, LEVELS))})")
    op.add_column("executions", sa.Column("conversation_id", sa.Text(), nullable=True))
    op.create_foreign_key(op.f("fk_executions_conversation_id_conversations"), "executions", "conversations", ["conversation_id"], ["id"])
    op.execute("UPDATE executions SET conversation_id = t.conversation_id FROM agent_tasks t WHERE t.id = executions.agent_task_id")
    op.execute(
        "UPDATE executions SET conversation_id = c.id FROM conversations c "
        "WHERE executions.task_name = 'federation.tasks.summaries.summarise' AND c.id = executions.kwargs ->> 'conversation_id'"
    )


def _make_functions() -> None:
    """Make what looks past the policies: it answers only what the caller's own name entitles to."""
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    definer = f"SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp"
    # The policy of the members' table cannot ask that table itself.
    op.execute(
        f"""
        CREATE FUNCTION federation_conversations() RETURNS SETOF text LANGUAGE sql STABLE PARALLEL SAFE ROWS 100 {definer} AS $$
            SELECT 'commons' WHERE nullif(current_setting('federation.actor', true), '') IS NOT NULL
            UNION ALL
            SELECT conversation_id FROM conversation_members WHERE agent = nullif(current_setting('federation.actor', true), '')
        $$
        """  # noqa: S608 - it is ours
    )
    op.execute(
        f"""
        CREATE FUNCTION federation_next_position(stream text) RETURNS bigint LANGUAGE sql VOLATILE {definer} AS $$
            INSERT INTO streams (name, position) VALUES (stream, 1)
            ON CONFLICT (name) DO UPDATE SET position = streams.position + 1
            RETURNING position
        $$
        """  # noqa: S608 - it is ours
    )
    for function in ("federation_conversations()", "federation_next_position(text)"):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO federation_app, federation_service")


def downgrade() -> None:
    for table, verbs in APP.items():
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
        for policy in (*(f"app_{verb.lower()}" for verb in verbs), "service", "auditor", "owner"):
            op.execute(f"DROP POLICY {policy} ON {table}")
    for rights, tables in BEFORE.items():
        op.execute(f"GRANT {rights} ON {', '.join(tables)} TO federation_app")
    op.execute("GRANT UPDATE (revoked_at, updated_by) ON signers TO federation_app")
    op.execute("DROP FUNCTION federation_next_position(text)")
    op.execute("DROP FUNCTION federation_conversations()")
    op.drop_index("ix_messages_said_by", "messages")
    op.drop_column("executions", "conversation_id")
    # The older program shows all of them to everybody.
    op.execute("UPDATE cop_states SET summary = '', thinking = NULL, wondering = NULL, offering = NULL WHERE visibility <> 'all'")
    op.drop_column("cop_states", "visibility")
