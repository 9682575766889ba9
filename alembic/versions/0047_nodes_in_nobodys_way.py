"""What a node's login writes has a size and a form that its readers can bear, and what it holds that others wait for is ended."""

import sqlalchemy as sa
from alembic import op

revision: str = "0047"
down_revision: str | None = "0046"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0041 to 0046.
IS_NODE = "(SELECT session_user ~ '^federation_node(service)?_')"
NODES = "^federation_node(service)?_"
# Of a row as text, in bytes. Most are read by the hundred; one that is read alone may have more. What PostgreSQL packs has a hundredth of its size.
USUAL = 4_000_000
LARGEST = {
    "allowances": 10_000,
    "cop_history": 10_000,
    "cop_states": 10_000,
    "celery_results": 100_000_000,
    "celery_group_results": 100_000_000,
    "execution_deliveries": 100_000,
    "executions": 16_000_000,
    # With each file that was passed over.
    "index_runs": 100_000_000,
    "nodes": 100_000,
    "outbox": 100_000,
    # The body is what came, of up to 100 MiB, and twice as long as text.
    "quarantine": 250_000_000,
    "services": 10_000,
    "signers": 10_000,
}
WRITTEN = (
    *(
        "agent_findings",
        "agent_tasks",
        "allowances",
        "artifacts",
        "cached_answers",
        "celery_chords",
        "celery_group_results",
        "celery_results",
        "chunks",
    ),
    *("claim_waiters", "claims", "conversation_members", "conversations", "cop_history", "cop_states", "documents", "execution_deliveries"),
    *("execution_effects", "executions", "index_batches", "index_runs", "indexed_folders", "memories", "message_receipts", "messages", "model_runs"),
    *("nodes", "outbox", "quarantine", "services", "signers", "summaries", "vector_changes"),
)
# What readers take for an object or a list. What may be missing is the null of JSON too.
OBJECTS = {
    "agent_findings": ("content",),
    "agent_tasks": ("requirements",),
    "cop_history": ("data",),
    "cop_states": ("data",),
    "execution_effects": ("value",),
    "executions": ("kwargs", "requirements"),
    "model_runs": ("parameters",),
    "quarantine": ("headers",),
}
OBJECTS_OR_NONE = {"agent_tasks": ("parameters", "result"), "messages": ("data",), "model_runs": ("cached",)}
LISTS = {
    "agent_findings": ("evidence",),
    "index_batches": ("chunk_ids",),
    "index_runs": ("skipped",),
    "model_runs": ("route",),
    "summaries": ("message_ids",),
}
# What a node says of itself: how much runs and waits, and that it is gone.
COUNTS = "::text ~ '^[{](\"[a-z_]{1,40}\": ([0-9]{1,9}|true|false)(, )?)*[}]$'"
OWN_STATE = f"kind = 'node' AND subject = (SELECT regexp_replace(session_user::text, '{NODES}', '')) AND data{COUNTS}"
MORE = {
    # Of all of these each who looks at the picture reads each.
    "cop_states": OWN_STATE,
    "cop_history": OWN_STATE,
    "nodes": f"load{COUNTS}",
    "messages": "coalesce(data ->> 'task_id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$', true)",
    "agent_findings": "jsonb_typeof(content -> 'text') = 'string' AND NOT jsonb_path_exists(evidence, '$[*] ? (@.type() <> \"object\")')",
    # These are read of many at once, and stand in events and messages.
    "executions": "octet_length(concat(task_name, requirements::text, affinity, actor, trace_id, node, outcome)) <= 10000",
    # There is one for so many of the level below.
    "summaries": "level <= 20 AND from_position >= 1 AND to_position BETWEEN from_position AND 1000000000000000",
}
BEFORE, AFTER = "pg_column_size(payload) <= 16777216", f"octet_length(payload::text) <= {USUAL}"
MAY = "pg_has_role('pg_signal_backend', 'USAGE')"


def upgrade() -> None:
    _change_tells(BEFORE, AFTER)
    for table in WRITTEN:
        fits = f"NOT {IS_NODE} OR ({_fits(table)})"
        for verb, rows in (("INSERT", ""), ("UPDATE", "USING (true) ")):
            op.execute(
                f"CREATE POLICY node_fits_{verb.lower()} ON {table} AS RESTRICTIVE FOR {verb} TO federation_app, federation_service "
                f"{rows}WITH CHECK ({fits})"
            )
    # As the owner, who was given the right to end sessions. `locks` are those by which one part acts for all.
    op.execute(
        f"""
        CREATE FUNCTION federation_end_hindering(after interval, locks bigint[], OUT node text, OUT ended boolean) RETURNS SETOF record
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER {_path()} AS $$
        BEGIN
            IF session_user ~ '{NODES}' THEN
                RAISE EXCEPTION 'a node ends nobody''s session' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN QUERY
                WITH RECURSIVE waiting AS (
                    SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                    WHERE NOT l.granted AND l.waitstart < clock_timestamp() - after AND a.usename !~ '{NODES}'
                ), in_the_way AS (
                    SELECT unnest(pg_blocking_pids(w.pid)) AS pid FROM waiting w UNION SELECT unnest(pg_blocking_pids(i.pid)) FROM in_the_way i
                ), hindering AS (
                    SELECT i.pid FROM in_the_way i
                    UNION SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                        AND (l.classid::bigint << 32 | l.objid::bigint) = ANY (locks)
                )
                SELECT regexp_replace(a.usename, '{NODES}', ''), CASE WHEN {MAY} THEN pg_terminate_backend(a.pid) ELSE false END
                FROM pg_stat_activity a JOIN hindering USING (pid) WHERE a.usename ~ '{NODES}';
        END $$
        """  # noqa: S608 - it is ours
    )
    op.execute("REVOKE ALL ON FUNCTION federation_end_hindering(interval, bigint[]) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION federation_end_hindering(interval, bigint[]) TO federation_service")


def downgrade() -> None:
    op.execute("DROP FUNCTION federation_end_hindering(interval, bigint[])")
    for table in WRITTEN:
        for verb in ("insert", "update"):
            op.execute(f"DROP POLICY node_fits_{verb} ON {table}")
    _change_tells(AFTER, BEFORE)


def _fits(table: str) -> str:
    wants = [f"octet_length({table}::text) <= {LARGEST.get(table, USUAL)}"]
    wants += [f"coalesce(jsonb_typeof({column}), 'object') = 'object'" for column in OBJECTS.get(table, ())]
    wants += [f"coalesce(jsonb_typeof({column}), 'null') IN ('object', 'null')" for column in OBJECTS_OR_NONE.get(table, ())]
    wants += [f"coalesce(jsonb_typeof({column}), 'array') = 'array'" for column in LISTS.get(table, ())]
    return " AND ".join([*wants, *([MORE[table]] if table in MORE else [])])


def _path() -> str:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    return f"SET search_path = pg_catalog, {schema}, pg_temp"


def _change_tells(before: str, after: str) -> None:
    oid = "federation_node_tells(text, jsonb, text, text)"
    definition = op.get_bind().scalar(sa.text(f"SELECT pg_get_functiondef('{oid}'::regprocedure)"))
    assert definition.count(before) == 1
    op.execute(definition.replace(before, after))
