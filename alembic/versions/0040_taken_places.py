"""Agents write where a place was taken, of executions and runs that are theirs, and under no other name."""

import sqlalchemy as sa
from alembic import op

revision: str = "0040"
down_revision: str | None = "0039"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0013 and 0021.
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
SEEN_FOLDER = "folder_id IN (SELECT id FROM indexed_folders)"
SEEN_DOCUMENT = "EXISTS (SELECT FROM documents d WHERE d.id = document_id OFFSET 0)"
# A row at a place that nobody took stands in the way of who takes it: nobody could write there any more.
PLACES = {
    "messages": "federation_stream('messages:' || conversation_id, position) IS NOT NULL",
    "agent_findings": "federation_stream('session:' || session_id, position) IS NOT NULL",
    "message_receipts": "federation_received(agent, position)",
    "conversation_phases": "number = federation_next_phase(conversation_id)",
    "artifacts": "version = federation_next_version(conversation_id, name)",
}
# What gives the next number, the table and column where it is counted, and within what beside the conversation.
COUNTED = (
    ("federation_next_phase(conversation text)", "conversation_phases", "number", ""),
    ("federation_next_version(conversation text, called text)", "artifacts", "version", " AND t.name = called"),
)
MY_EXECUTION = f"EXISTS (SELECT FROM executions e WHERE e.id = execution_id AND e.actor = {ME} OFFSET 0)"
# One that was called with Celery's own tools is in no row; of those that the actor does not see, the function knows.
NOT_ANOTHERS = f"""
    federation_stream('execution:' || execution_id, NULL) IS NOT NULL
    AND NOT EXISTS (SELECT FROM executions e WHERE e.id = execution_id AND e.actor <> {ME} OFFSET 0)
"""
# The conversation of two is opened by one of them, under the name that they both find it by.
DIRECT = f"""
    id NOT LIKE 'direct:%' OR {ME} IN (split_part(id, ':', 2), split_part(id, ':', 3)) AND split_part(id, ':', 4) = ''
        AND split_part(id, ':', 2) COLLATE "C" <= split_part(id, ':', 3) COLLATE "C"
"""


def _at_work(folder: str) -> str:
    """Return the condition that an index is the actor's, or that he has a run over it which is not over."""
    return f"""(
        EXISTS (SELECT FROM indexed_folders f WHERE f.id = {folder} AND f.created_by = {ME} OFFSET 0)
        OR EXISTS (SELECT FROM index_runs r WHERE r.folder_id = {folder} AND r.created_by = {ME} AND r.finished_at IS NULL OFFSET 0)
    )"""  # noqa: S608 - it is ours


# Of who acts for agents, as in 0037: the place is taken in a function that runs as its owner.
ACTING = "coalesce(nullif(current_setting('role'), 'none'), session_user)"
BY_AGENTS = f"pg_has_role({ACTING}, 'federation_app', 'USAGE') AND NOT pg_has_role({ACTING}, 'federation_service', 'USAGE')"


# Table and verb: which rows, and which before.
ROWS = {
    ("execution_effects", "INSERT"): (f"actor = {ME} AND {NOT_ANOTHERS}", f"actor = {ME}"),
    ("model_runs", "INSERT"): (f"actor = {ME} AND {MY_EXECUTION}", f"actor = {ME}"),
    ("conversations", "INSERT"): (f"created_by = {ME} AND ({DIRECT})", f"created_by = {ME}"),
    ("documents", "DELETE"): (f"{SEEN_FOLDER} AND {_at_work('folder_id')}", SEEN_FOLDER),
    ("chunks", "DELETE"): (
        f"EXISTS (SELECT FROM documents d WHERE d.id = document_id AND {_at_work('d.folder_id')} OFFSET 0)",
        SEEN_DOCUMENT,
    ),
}


def upgrade() -> None:
    # Tells of an inbox no more than its next place does, which whoever writes there is given. Volatile, so that it sees what the same statement took.
    op.execute(
        f"""
        CREATE FUNCTION federation_received(reader text, place bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER {_path()} AS $$
        BEGIN
            RETURN place >= 1 AND EXISTS (SELECT FROM streams s WHERE s.name = 'inbox:' || reader AND s.position >= place);
        END $$
        """
    )
    # Policies cannot ask their own table. These see what their caller sees.
    for function, table, number, rest in COUNTED:
        op.execute(
            f"""
            CREATE FUNCTION {function} RETURNS integer LANGUAGE plpgsql VOLATILE {_path()} AS $$
            BEGIN
                RETURN 1 + coalesce((SELECT max(t.{number}) FROM {table} t WHERE t.conversation_id = conversation{rest}), 0);
            END $$
            """  # noqa: S608 - it is ours
        )
    for function in ("federation_received(text, bigint)", *(function for function, *_ in COUNTED)):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO federation_app")
    # At the end of the transaction, because a place is taken before its event is written. Of an inbox there are none. Who acts is asked in the
    # function, because a condition is made ready anew for each statement.
    op.execute(
        f"""
        CREATE FUNCTION federation_place_told() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {_path()} AS $$
        BEGIN
            IF {BY_AGENTS} AND NOT EXISTS (SELECT FROM events e WHERE e.stream = NEW.name AND e.position = NEW.position) THEN
                RAISE EXCEPTION 'place % of stream % was taken, and no event stands there', NEW.position, NEW.name
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION federation_place_told() FROM PUBLIC")
    op.execute(
        """
        CREATE CONSTRAINT TRIGGER told AFTER INSERT OR UPDATE ON streams DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (NOT starts_with(NEW.name, 'inbox:')) EXECUTE FUNCTION federation_place_told()
        """
    )
    for table, taken in PLACES.items():
        # Besides what the others demand.
        op.execute(f"CREATE POLICY app_place ON {table} AS RESTRICTIVE FOR INSERT TO federation_app WITH CHECK ({taken})")
    for (table, verb), (rows, _) in ROWS.items():
        _hold(table, verb, rows)
    _drop_answers(
        f"""
        plpgsql VOLATILE SECURITY DEFINER {_path()} AS $$
        BEGIN
            IF {ME} IS NULL THEN
                RAISE EXCEPTION 'cached answers are dropped by who says who he is' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN QUERY {DROPPED};
        END $$
        """
    )


def downgrade() -> None:
    _drop_answers(f"sql VOLATILE SECURITY DEFINER {_path()} AS $$ {DROPPED} $$")
    for (table, verb), (_, rows) in ROWS.items():
        _hold(table, verb, rows)
    op.execute("DROP TRIGGER told ON streams")
    op.execute("DROP FUNCTION federation_place_told()")
    for table in PLACES:
        op.execute(f"DROP POLICY app_place ON {table}")
    for function, *_ in COUNTED:
        op.execute(f"DROP FUNCTION {function}")
    op.execute("DROP FUNCTION federation_received(text, bigint)")


def _path() -> str:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    return f"SET search_path = pg_catalog, {schema}, pg_temp"


def _hold(table: str, verb: str, rows: str) -> None:
    clause = "WITH CHECK" if verb == "INSERT" else "USING"
    op.execute(f"ALTER POLICY app_{verb.lower()} ON {table} {clause} ({rows})")


# As in 0034.
DROPPED = """
    DELETE FROM cached_answers WHERE execution_id IN (
        SELECT execution_id FROM (
            SELECT execution_id, created_at,
                row_number() OVER (PARTITION BY conversation_id, CASE WHEN conversation_id IS NULL THEN created_by END
                    ORDER BY used_at DESC, execution_id) AS of_each,
                row_number() OVER (ORDER BY used_at DESC, execution_id) AS of_all
            FROM cached_answers WHERE created_at >= clock_timestamp() - age
        ) fresh WHERE of_each > in_each OR of_all > in_all
    ) OR created_at < clock_timestamp() - age
    RETURNING execution_id
"""


def _drop_answers(body: str) -> None:
    op.execute(
        f"CREATE OR REPLACE FUNCTION federation_drop_answers(in_each integer, in_all integer, age interval) RETURNS SETOF uuid LANGUAGE {body}"
    )
