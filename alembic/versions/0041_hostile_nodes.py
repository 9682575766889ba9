"""Logins of nodes reach no token and make no agent nor key of one; a token that was revoked stays so, and none lasts longer than was said."""

import sqlalchemy as sa
from alembic import op

revision: str = "0041"
down_revision: str | None = "0040"
branch_labels: str | None = None
depends_on: str | None = None

ROLES = "federation_app, federation_service"
# Who has logged in, whatever role was set; in a sub-select, so that it is asked once a statement.
IS_NODE = "(SELECT session_user ~ '^federation_node(service)?_')"
# The owner's functions look at keys for nodes too, so this is for the program's roles and what inherits them.
NOT_WRITTEN = ("agents", "agent_keys")


def upgrade() -> None:
    op.execute(f"CREATE POLICY no_node ON agent_tokens AS RESTRICTIVE TO {ROLES} USING (NOT {IS_NODE}) WITH CHECK (NOT {IS_NODE})")
    for table in NOT_WRITTEN:
        op.execute(f"CREATE POLICY no_node_insert ON {table} AS RESTRICTIVE FOR INSERT TO {ROLES} WITH CHECK (NOT {IS_NODE})")
        op.execute(f"CREATE POLICY no_node_update ON {table} AS RESTRICTIVE FOR UPDATE TO {ROLES} USING (NOT {IS_NODE})")
        op.execute(f"CREATE POLICY no_node_delete ON {table} AS RESTRICTIVE FOR DELETE TO {ROLES} USING (NOT {IS_NODE})")
    op.execute(
        """
        CREATE FUNCTION only_end_agent_token() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NOT pg_has_role((SELECT relowner FROM pg_catalog.pg_class WHERE oid = TG_RELID), 'USAGE') AND (
                OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at
                OR coalesce(NEW.expires_at, 'infinity') > coalesce(OLD.expires_at, 'infinity')
                OR (OLD.id, OLD.agent, OLD.token_sha256, OLD.label, OLD.created_by, OLD.created_at)
                    IS DISTINCT FROM (NEW.id, NEW.agent, NEW.token_sha256, NEW.label, NEW.created_by, NEW.created_at)
            ) THEN
                RAISE EXCEPTION 'a token is revoked once, lasts no longer than was said, and is not changed otherwise'
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute("CREATE TRIGGER agent_tokens_only_ended BEFORE UPDATE ON agent_tokens FOR EACH ROW EXECUTE FUNCTION only_end_agent_token()")
    # All in one CASE, or others' sessions would be asked for first.
    # As the owner, who may end sessions and is a member of no node's role: by it he would come under the policies for the program's roles.
    _end_expired(
        "regexp_replace(r.rolname, '^federation_node(service)?_', '')",
        "r.rolname ~ '^federation_node(service)?_'",
        "pg_has_role('pg_signal_backend', 'USAGE')",
    )


def downgrade() -> None:
    _end_expired("substr(r.rolname, length('federation_node_') + 1)", "starts_with(r.rolname, 'federation_node_')", "pg_has_role(r.oid, 'USAGE')")
    op.execute("DROP TRIGGER agent_tokens_only_ended ON agent_tokens")
    op.execute("DROP FUNCTION only_end_agent_token()")
    for table in NOT_WRITTEN:
        for verb in ("insert", "update", "delete"):
            op.execute(f"DROP POLICY no_node_{verb} ON {table}")
    op.execute("DROP POLICY no_node ON agent_tokens")


def _end_expired(node: str, is_node: str, may: str) -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION federation_end_expired() RETURNS SETOF text LANGUAGE sql VOLATILE
        SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
            SELECT {node} FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
            WHERE CASE WHEN {is_node} AND r.rolvaliduntil <= clock_timestamp() AND {may} THEN pg_terminate_backend(a.pid) END
        $$
        """  # noqa: S608 - it is ours
    )
