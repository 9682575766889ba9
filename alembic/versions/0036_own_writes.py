"""Agents write events only in streams that are theirs, and of rows only columns that change; who has no name sees nothing."""

import sqlalchemy as sa
from alembic import op

revision: str = "0036"
down_revision: str | None = "0035"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0013.
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
SEEN_CLAIM = f"""
    resource NOT LIKE 'task:%'
    OR EXISTS (SELECT FROM agent_tasks t WHERE t.id = CASE WHEN substr(resource, 6) ~ {UUID} THEN substr(resource, 6)::uuid END OFFSET 0)
"""
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
# Of each of these, something was to be seen without a name.
SEEN = {"claims": SEEN_CLAIM, "claim_waiters": SEEN_CLAIM, "cop_states": SEEN_STATE, "cop_history": SEEN_STATE}

# What `app` changes of a row that stands: whose it is, what it is about and when it was made stay.
CHANGED = {
    "agent_session_members": "focus",
    "agent_sessions": "context, status, outcome, completed_at, updated_by",
    "agent_tasks": "status, assigned_to, handed_to, result, completed_at, decided_by, decision_reason, waiting_since, expires_at, escalated_at, "
    "updated_by",
    "allowances": "used_until",
    "chunks": "start_line, end_line, words_at, vector_at, updated_by",
    "claim_waiters": "present_until, updated_by",
    "claims": "holder, fencing_token, description, acquired_at, expires_at, released_at, updated_by",
    "consensus": "revision, proposal, options_hash, updated_by",
    "conversations": "unsummarised, updated_by",
    "cop_states": "summary, action, thinking, wondering, offering, data, visibility, changed_in, updated_at, updated_by",
    "documents": "sha256, size, run_id, updated_by",
    "executions": "cancelled_at, updated_by",
    "index_batches": "node, finished_at, updated_by",
    "index_runs": "deleted_files, chunks, batches, finished_at, updated_by",
    "memories": "vector_at, summary_id, updated_by",
    "message_receipts": "read_at, updated_by",
    "summary_schedules": "cron, messages, updated_at, updated_by",
    "vector_changes": "run_id, model, vector, updated_by",
}
# Where `app` writes, and the row says who wrote it last.
SAYS_WHO = ("cached_answers", *(table for table, columns in CHANGED.items() if "updated_by" in columns))


def upgrade() -> None:
    _guard_streams()
    for table, rows in SEEN.items():
        op.execute(f"ALTER POLICY app_select ON {table} USING ({ME} IS NOT NULL AND ({rows}))")
    for table, columns in CHANGED.items():
        op.execute(f"REVOKE UPDATE ON {table} FROM federation_app")
        op.execute(f"GRANT UPDATE ({columns}) ON {table} TO federation_app")
    for table in SAYS_WHO:
        # Besides what the others demand.
        op.execute(f"CREATE POLICY app_name ON {table} AS RESTRICTIVE TO federation_app USING (true) WITH CHECK (updated_by = {ME})")


def _definer() -> str:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    return f"SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp"


def _guard_streams() -> None:
    """Make what tells in which streams the caller may write, and hold positions and events to it."""
    definer = _definer()
    # Each kind that agents write in stands here, and what it is of is looked for by its key: an event costs the same however many conversations its
    # actor is in. The answer is the conversation that events of the stream name, '' where they name none, null where the caller may not write, or
    # where nobody has taken the place. Volatile, so that it sees what the same statement took.
    op.execute(
        f"""
        CREATE FUNCTION federation_stream(stream text, place bigint) RETURNS text LANGUAGE plpgsql VOLATILE {definer} AS $$
        DECLARE
            me text := nullif(current_setting('federation.actor', true), '');
            kind text := split_part(stream, ':', 1);
            rest text := substr(stream, length(kind) + 2);
            key text := CASE WHEN kind = 'claim' THEN substr(rest, 6) ELSE split_part(stream, ':', 2) END;
            identity uuid := CASE WHEN key ~ {UUID} THEN key::uuid END;
            conversation text;
        BEGIN
            IF place < 1 OR place IS NOT NULL AND NOT EXISTS (SELECT FROM streams s WHERE s.name = stream AND s.position >= place) THEN
                RETURN NULL;
            END IF;
            CASE kind
                WHEN 'agent' THEN
                    conversation := CASE WHEN rest = me THEN '' END;
                WHEN 'conversation', 'messages', 'artifacts' THEN
                    conversation := nullif(rest, '');
                WHEN 'task' THEN
                    SELECT t.conversation_id INTO conversation FROM agent_tasks t WHERE t.id = identity;
                WHEN 'session' THEN
                    SELECT coalesce(s.conversation_id, CASE WHEN s.created_by = me THEN '' END) INTO conversation
                    FROM agent_sessions s WHERE s.id = identity;
                WHEN 'message' THEN
                    SELECT m.conversation_id INTO conversation FROM messages m WHERE m.id = identity AND m.sender = me;
                WHEN 'consensus' THEN
                    SELECT c.conversation_id INTO conversation FROM consensus c
                    WHERE c.id = identity AND split_part(stream, ':', 4) IN ('', me);
                WHEN 'execution' THEN
                    SELECT CASE WHEN e.actor = me THEN '' ELSE e.conversation_id END INTO conversation FROM executions e WHERE e.id = identity;
                    IF NOT FOUND AND identity IS NOT NULL THEN
                        -- Called with Celery's own tools, it is in no row.
                        conversation := '';
                    END IF;
                WHEN 'claim' THEN
                    IF rest LIKE 'task:%' THEN
                        SELECT t.conversation_id INTO conversation FROM agent_tasks t WHERE t.id = identity;
                    ELSE
                        conversation := '';
                    END IF;
                WHEN 'index' THEN
                    SELECT '' INTO conversation FROM index_runs r WHERE r.id = identity AND r.created_by = me;
                WHEN 'memory' THEN
                    -- Of one that was forgotten only the log knows whose it was.
                    SELECT '' INTO conversation
                    WHERE EXISTS (SELECT FROM memories m WHERE m.id = identity AND m.created_by = me)
                        OR EXISTS (SELECT FROM events e WHERE e.stream = federation_stream.stream AND e.position = 1 AND e.actor = me);
                ELSE
                    conversation := NULL;
            END CASE;
            IF me IS NOT NULL AND (conversation IN ('', 'commons') OR EXISTS (
                SELECT FROM conversation_members m WHERE m.conversation_id = conversation AND m.agent = me
            )) THEN
                RETURN CASE WHEN kind IN ('execution', 'claim') THEN '' ELSE conversation END;
            END IF;
            RETURN NULL;
        END $$
        """  # noqa: S608 - it is ours
    )
    # An inbox has positions and no events, and whoever may write to an agent takes one there.
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION federation_next_position(stream text) RETURNS bigint LANGUAGE plpgsql VOLATILE {definer} AS $$
        DECLARE
            taken bigint;
        BEGIN
            IF session_user = 'federation_app' AND stream NOT LIKE 'inbox:%' AND federation_stream(stream, NULL) IS NULL THEN
                RAISE EXCEPTION 'stream % is not one that % writes in', stream, nullif(current_setting('federation.actor', true), '')
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            INSERT INTO streams AS s (name, position) VALUES (stream, 1)
            ON CONFLICT (name) DO UPDATE SET position = s.position + 1
            RETURNING s.position INTO taken;
            RETURN taken;
        END $$
        """  # noqa: S608 - it is ours
    )
    op.execute("REVOKE ALL ON FUNCTION federation_stream(text, bigint) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION federation_stream(text, bigint) TO federation_app")
    own = f"actor = {ME} AND coalesce(conversation_id, '') = federation_stream(stream, position)"
    op.execute(f"ALTER POLICY app_insert ON events WITH CHECK ({own})")


def downgrade() -> None:
    for table in SAYS_WHO:
        op.execute(f"DROP POLICY app_name ON {table}")
    for table, columns in CHANGED.items():
        op.execute(f"REVOKE UPDATE ({columns}) ON {table} FROM federation_app")
        op.execute(f"GRANT UPDATE ON {table} TO federation_app")
    for table, rows in SEEN.items():
        op.execute(f"ALTER POLICY app_select ON {table} USING ({rows})")
    op.execute(f"ALTER POLICY app_insert ON events WITH CHECK (actor = {ME})")
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION federation_next_position(stream text) RETURNS bigint LANGUAGE sql VOLATILE {_definer()} AS $$
            INSERT INTO streams (name, position) VALUES (stream, 1)
            ON CONFLICT (name) DO UPDATE SET position = streams.position + 1
            RETURNING position
        $$
        """  # noqa: S608 - it is ours
    )
    op.execute("DROP FUNCTION federation_stream(text, bigint)")
