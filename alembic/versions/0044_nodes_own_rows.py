"""A node's login writes only at places that were taken, rows of its own node, and nothing of the log's order; nobody chooses a row's number."""

import sqlalchemy as sa
from alembic import op

revision: str = "0044"
down_revision: str | None = "0043"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0041 and 0042.
IS_NODE = "(SELECT session_user ~ '^federation_node(service)?_')"
NODE = "(SELECT regexp_replace(session_user::text, '^federation_node(service)?_', ''))"
# Beat alone writes these, and functions of the owner the counters of streams.
NOT_WRITTEN = ("streams", "event_order", "event_relay", "seals", "feeds")
# As for agents in 0036 and 0040, but of all conversations: a row ahead of its stream would keep all others from writing there.
PLACES = {
    "events": "federation_reached(stream, position)",
    "messages": "federation_reached('messages:' || conversation_id, position)",
    "agent_findings": "federation_reached('session:' || session_id, position)",
    "message_receipts": "federation_reached('inbox:' || agent, position)",
    "conversation_phases": "number = federation_next_phase(conversation_id)",
    "artifacts": "version = federation_next_version(conversation_id, name)",
}
COUNTED = "federation_next_phase(text), federation_next_version(text, text)"
OWN_NODE = f"name = {NODE} AND greatest(last_seen_at, announced_at) <= clock_timestamp() + interval '1 minute'"
# As `parts.acting_in` has it.
OWN_SERVICE = f"""
    name IN ('service:worker', 'service:outbox') AND EXISTS (SELECT FROM signers s WHERE s.identity = signer AND s.name = 'node:' || {NODE} OFFSET 0)
"""
KEYS = 100
# Who acts for agents, as in 0040.
ACTING = "coalesce(nullif(current_setting('role'), 'none'), session_user)"
BY_AGENTS = f"pg_has_role({ACTING}, 'federation_app', 'USAGE') AND NOT pg_has_role({ACTING}, 'federation_service', 'USAGE')"
# A number that somebody chose ahead of its sequence would make another's write fail.
NUMBERED = ("events", "cop_history", "claim_waiters")
ROLES = "federation_app, federation_service"
# The function that appends runs as its owner, whom no policy holds.
TAKES = """
            IF place IS NULL THEN
"""
ASKS = """
            IF place IS NOT NULL AND session_user ~ '^federation_node(service)?_' THEN
                IF NOT federation_reached(stream, place) THEN
                    RAISE EXCEPTION 'place % of stream % is not taken', place, stream USING ERRCODE = 'insufficient_privilege';
                END IF;
            END IF;
"""


def upgrade() -> None:
    # Volatile, so that they see what the same statement did.
    op.execute(
        f"""
        CREATE FUNCTION federation_reached(stream text, place bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE {_path()} AS $$
        BEGIN
            RETURN place >= 1 AND EXISTS (SELECT FROM streams s WHERE s.name = stream AND s.position >= place);
        END $$
        """
    )
    # A policy cannot ask its own table.
    op.execute(
        f"""
        CREATE FUNCTION federation_keys_of(owner text) RETURNS bigint LANGUAGE plpgsql VOLATILE {_path()} AS $$
        BEGIN
            RETURN (SELECT count(*) FROM signers s WHERE s.name = owner);
        END $$
        """  # noqa: S608 - it is ours
    )
    for function in ("federation_reached(text, bigint)", "federation_keys_of(text)"):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO federation_service")
    op.execute(f"GRANT EXECUTE ON FUNCTION {COUNTED} TO federation_service")
    for table in NOT_WRITTEN:
        _hold(table, "INSERT", "false")
        _hold(table, "UPDATE", "false", "false")
        _hold(table, "DELETE", "false")
    for table, taken in PLACES.items():
        _hold(table, "INSERT", taken)
    _hold("message_receipts", "UPDATE", "true", PLACES["message_receipts"])
    _hold("nodes", "INSERT", OWN_NODE)
    _hold("nodes", "UPDATE", f"name = {NODE}", OWN_NODE)
    _hold("services", "INSERT", OWN_SERVICE)
    _hold("signers", "INSERT", f"federation_keys_of(name) < {KEYS}")
    _tell(f"({BY_AGENTS} OR session_user ~ '^federation_node(service)?_')")
    _change_append(TAKES, ASKS.rstrip("\n") + TAKES)
    _check_identities()
    for table in NUMBERED:
        op.execute(f"REVOKE INSERT ON {table} FROM {ROLES}")
        op.execute(f"GRANT INSERT ({_given(table)}) ON {table} TO {ROLES}")


def downgrade() -> None:
    for table in NUMBERED:
        op.execute(f"REVOKE INSERT ({_given(table)}) ON {table} FROM {ROLES}")
        op.execute(f"GRANT INSERT ON {table} TO {ROLES}")
    op.execute("ALTER TABLE signers DROP CONSTRAINT ck_signers_identity")
    _change_append(ASKS.rstrip("\n") + TAKES, TAKES)
    _tell(BY_AGENTS)
    for table, verbs in (
        *((table, ("INSERT", "UPDATE", "DELETE")) for table in NOT_WRITTEN),
        *((table, ("INSERT",)) for table in (*PLACES, "services", "signers")),
        ("message_receipts", ("UPDATE",)),
        ("nodes", ("INSERT", "UPDATE")),
    ):
        for verb in verbs:
            op.execute(f"DROP POLICY node_{verb.lower()} ON {table}")
    op.execute(f"REVOKE EXECUTE ON FUNCTION {COUNTED} FROM federation_service")
    op.execute("DROP FUNCTION federation_keys_of(text)")
    op.execute("DROP FUNCTION federation_reached(text, bigint)")


def _path() -> str:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    return f"SET search_path = pg_catalog, {schema}, pg_temp"


def _hold(table: str, verb: str, rows: str, written: str | None = None) -> None:
    """Hold logins of nodes to these rows, and what they make of a row to `written`."""
    clause = f"{'WITH CHECK' if verb == 'INSERT' else 'USING'} (NOT {IS_NODE} OR ({rows}))"
    if written is not None:
        clause += f" WITH CHECK (NOT {IS_NODE} OR ({written}))"
    op.execute(f"CREATE POLICY node_{verb.lower()} ON {table} AS RESTRICTIVE FOR {verb} TO federation_service {clause}")


def _tell(who: str) -> None:
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION federation_place_told() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {_path()} AS $$
        BEGIN
            IF {who} AND NOT EXISTS (SELECT FROM events e WHERE e.stream = NEW.name AND e.position = NEW.position) THEN
                RAISE EXCEPTION 'place % of stream % was taken, and no event stands there', NEW.position, NEW.name
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NULL;
        END $$
        """
    )


def _change_append(before: str, after: str) -> None:
    oid = "federation_append(text, bigint, text, text, text, uuid, jsonb, text)"
    definition = op.get_bind().scalar(sa.text(f"SELECT pg_get_functiondef('{oid}'::regprocedure)"))
    assert definition.count(before) == 1
    op.execute(definition.replace(before, after))


def _check_identities() -> None:
    # What is no identity is of no key, and verifies nothing; only SQL beside the program could write it.
    no_identity = "identity !~ '^[0-9a-f]{64}$'"
    for table in ("services", "signers"):
        op.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    op.execute(f"DELETE FROM services WHERE signer IN (SELECT identity FROM signers WHERE {no_identity})")  # noqa: S608 - it is ours
    op.execute(f"DELETE FROM signers WHERE {no_identity}")  # noqa: S608 - it is ours
    for table in ("services", "signers"):
        op.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    op.create_check_constraint(op.f("ck_signers_identity"), "signers", "identity ~ '^[0-9a-f]{64}$'")


def _given(table: str) -> str:
    """Return the columns of a table that are not numbered by themselves."""
    query = """
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped AND attidentity = ''
    """
    return str(op.get_bind().scalar(sa.text(query), {"table": table}))
