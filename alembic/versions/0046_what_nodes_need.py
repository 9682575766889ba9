"""A node's login writes and reads of each table what the work of a node needs, and nothing else; what it has open holds up no revocation."""

import sqlalchemy as sa
from alembic import op

revision: str = "0046"
down_revision: str | None = "0045"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0041 to 0045.
IS_NODE = "(SELECT session_user ~ '^federation_node(service)?_')"
ROLES = ("federation_app", "federation_service")
# What a node's worker needs of a table with its role for agents, and with that for the program: S(elect), I(nsert), U(pdate), D(elete). Whether one
# of the two roles may do it at all, and with which rows, is said elsewhere. A task may do in an agent's name what agents have executions for: speak,
# delegate, claim, report, keep and remember. What is told over a front door alone, and what operators and beat do, is no work of a node.
NEEDS = {
    "agent_capabilities": ("S", "S"),
    "agent_findings": ("SI", "S"),
    "agent_keys": ("", ""),
    "agent_session_members": ("S", "S"),
    "agent_sessions": ("S", "S"),
    "agent_tasks": ("SIU", "SU"),
    "agent_tokens": ("", ""),
    "agents": ("S", "S"),
    "allowances": ("SIU", "SIU"),
    "artifacts": ("SI", "S"),
    "ballots": ("", ""),
    "cached_answers": ("SIU", "SIU"),
    "celery_chords": ("", "SIUD"),
    "celery_group_results": ("", "SIUD"),
    "celery_results": ("S", "SIUD"),
    "chunks": ("SIUD", "SIUD"),
    "claim_waiters": ("SIUD", "SIUD"),
    "claims": ("SIU", "SIU"),
    "consensus": ("S", "S"),
    "consensus_acks": ("", ""),
    "conversation_members": ("SI", "S"),
    "conversation_phases": ("S", "S"),
    "conversations": ("SIU", "SU"),
    "cop_history": ("S", "SI"),
    "cop_states": ("S", "SIU"),
    "dismissals": ("", ""),
    "documents": ("SIUD", "SIUD"),
    "event_order": ("", ""),
    "event_relay": ("", ""),
    # They are appended by a function of the owner.
    "events": ("S", "S"),
    "execution_deliveries": ("S", "SI"),
    "execution_effects": ("SI", "SI"),
    "executions": ("SIU", "SIU"),
    "feeds": ("", ""),
    "graph_relations": ("S", "S"),
    "index_batches": ("SIU", "SIU"),
    "index_runs": ("SIU", "SIU"),
    "indexed_folders": ("SID", "SID"),
    "memories": ("SIUD", "S"),
    "message_receipts": ("SIU", "S"),
    "messages": ("SI", "S"),
    "model_runs": ("SI", "SI"),
    "nodes": ("S", "SIU"),
    "outbox": ("SID", "SIUD"),
    "quarantine": ("S", "SI"),
    "redrives": ("S", "S"),
    "role_assignments": ("S", "S"),
    "seals": ("", ""),
    "services": ("", "SI"),
    "signers": ("", "SIU"),
    "statements": ("", ""),
    # Functions of the owner count them.
    "streams": ("", ""),
    "summaries": ("SI", "SI"),
    "summary_schedules": ("S", "S"),
    "vector_changes": ("SIUD", "SIUD"),
}
VERBS = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}
# What was said of single tables before, to both roles and to that of the program.
SAID = {
    "agents": ("INSERT", "UPDATE", "DELETE"),
    "agent_keys": ("INSERT", "UPDATE", "DELETE"),
    "events": ("INSERT",),
    "ballots": ("INSERT",),
    "consensus": ("INSERT", "UPDATE"),
    "consensus_acks": ("INSERT",),
    "role_assignments": ("INSERT",),
    "statements": ("INSERT",),
}
NOT_WRITTEN = ("streams", "event_order", "event_relay", "seals", "feeds")
PLACES = {
    "messages": "federation_reached('messages:' || conversation_id, position)",
    "agent_findings": "federation_reached('session:' || session_id, position)",
    "message_receipts": "federation_reached('inbox:' || agent, position)",
    "conversation_phases": "number = federation_next_phase(conversation_id)",
    "artifacts": "version = federation_next_version(conversation_id, name)",
}
FOR_PLACES = "federation_reached(text, bigint), federation_next_phase(text), federation_next_version(text, text)"
MAY = "pg_has_role('pg_signal_backend', 'USAGE')"
# What the program changes of rows that agents ask for: what is to be done, and who wants it, stays as it was recorded.
CHANGED = {
    "executions": "node, sent_at, cancelled_at, outcome, ended_at, updated_by",
    "agent_tasks": "status, assigned_to, handed_to, result, completed_at, decided_by, decision_reason, waiting_since, expires_at, escalated_at, "
    "updated_by",
}


def upgrade() -> None:
    for table, verbs in SAID.items():
        for verb in verbs:
            op.execute(f"DROP POLICY no_node_{verb.lower()} ON {table}")
    op.execute("DROP POLICY no_node ON agent_tokens")
    for table in NOT_WRITTEN:
        for verb in ("insert", "update", "delete"):
            op.execute(f"DROP POLICY node_{verb} ON {table}")
    for table in PLACES:
        op.execute(f"DROP POLICY node_insert ON {table}")
    op.execute("DROP POLICY node_update ON message_receipts")
    op.execute(f"REVOKE EXECUTE ON FUNCTION {FOR_PLACES} FROM federation_service")
    for table, needs in NEEDS.items():
        for letter, verb in VERBS.items():
            refused = [role for role, needed in zip(ROLES, needs, strict=True) if letter not in needed]
            if refused:
                _refuse(table, verb, ", ".join(refused))
    for table, columns in CHANGED.items():
        op.execute(f"REVOKE UPDATE ON {table} FROM federation_service")
        op.execute(f"GRANT UPDATE ({columns}) ON {table} TO federation_service")
    _make_key_function("IF session_user ~ '^federation_node(service)?_' THEN RETURN; END IF;")
    # As the owner, who was given the right to end sessions.
    op.execute(
        f"""
        CREATE FUNCTION federation_end_in_the_way(waiting int, OUT node text, OUT ended boolean) RETURNS SETOF record LANGUAGE plpgsql VOLATILE
        SECURITY DEFINER {_path()} AS $$
        BEGIN
            IF session_user ~ '^federation_node(service)?_' THEN
                RAISE EXCEPTION 'a node ends nobody''s session' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN QUERY
                WITH RECURSIVE in_the_way AS (
                    SELECT unnest(pg_blocking_pids(waiting)) AS pid UNION SELECT unnest(pg_blocking_pids(w.pid)) FROM in_the_way w
                )
                SELECT regexp_replace(a.usename, '^federation_node(service)?_', ''), CASE WHEN {MAY} THEN pg_terminate_backend(a.pid) ELSE false END
                FROM pg_stat_activity a JOIN in_the_way USING (pid) WHERE a.usename ~ '^federation_node(service)?_';
        END $$
        """  # noqa: S608 - it is ours
    )
    op.execute("REVOKE ALL ON FUNCTION federation_end_in_the_way(int) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION federation_end_in_the_way(int) TO federation_service")


def downgrade() -> None:
    op.execute("DROP FUNCTION federation_end_in_the_way(int)")
    _make_key_function("")
    for table, columns in CHANGED.items():
        op.execute(f"REVOKE UPDATE ({columns}) ON {table} FROM federation_service")
        op.execute(f"GRANT UPDATE ON {table} TO federation_service")
    for table, needs in NEEDS.items():
        for letter, verb in VERBS.items():
            if any(letter not in needed for needed in needs):
                op.execute(f"DROP POLICY no_node_{verb.lower()} ON {table}")
    op.execute(f"GRANT EXECUTE ON FUNCTION {FOR_PLACES} TO federation_service")
    for table in NOT_WRITTEN:
        _hold(table, "INSERT", "false")
        _hold(table, "UPDATE", "false", "false")
        _hold(table, "DELETE", "false")
    for table, taken in PLACES.items():
        _hold(table, "INSERT", taken)
    _hold("message_receipts", "UPDATE", "true", PLACES["message_receipts"])
    both = ", ".join(ROLES)
    op.execute(f"CREATE POLICY no_node ON agent_tokens AS RESTRICTIVE TO {both} USING (NOT {IS_NODE}) WITH CHECK (NOT {IS_NODE})")
    for table, verbs in SAID.items():
        for verb in verbs:
            _refuse(table, verb, both)


def _refuse(table: str, verb: str, roles: str) -> None:
    clause = "WITH CHECK" if verb == "INSERT" else "USING"
    op.execute(f"CREATE POLICY no_node_{verb.lower()} ON {table} AS RESTRICTIVE FOR {verb} TO {roles} {clause} (NOT {IS_NODE})")


def _hold(table: str, verb: str, rows: str, written: str | None = None) -> None:
    """As in 0044."""
    clause = f"{'WITH CHECK' if verb == 'INSERT' else 'USING'} (NOT {IS_NODE} OR ({rows}))"
    if written is not None:
        clause += f" WITH CHECK (NOT {IS_NODE} OR ({written}))"
    op.execute(f"CREATE POLICY node_{verb.lower()} ON {table} AS RESTRICTIVE FOR {verb} TO federation_service {clause}")


def _make_key_function(first: str) -> None:
    """Make what tells whose a key is, and keeps it from being revoked before the caller's commit; a node states nothing, and asks for none."""
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION federation_key(wanted text, OUT whose text, OUT pem text, OUT ended_at timestamptz) RETURNS SETOF record
        LANGUAGE plpgsql SECURITY DEFINER {_path()} AS $$
        BEGIN
            {first}
            RETURN QUERY SELECT k.agent, k.public_key, k.revoked_at FROM agent_keys k WHERE k.identity = wanted FOR SHARE;
            IF NOT FOUND THEN
                RETURN QUERY SELECT s.name, s.public_key, s.revoked_at FROM signers s WHERE s.identity = wanted FOR SHARE;
            END IF;
        END $$
        """  # noqa: S608 - it is ours
    )


def _path() -> str:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    return f"SET search_path = pg_catalog, {schema}, pg_temp"
