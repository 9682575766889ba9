"""Sessions of nodes whose day has come are ended by the program, which may end no others."""

import sqlalchemy as sa
from alembic import op

revision: str = "0039"
down_revision: str | None = "0038"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    # As the owner, to whom the role of each node is given when it is made. What was not given to him he passes over.
    op.execute(
        f"""
        CREATE FUNCTION federation_end_expired() RETURNS SETOF text LANGUAGE sql VOLATILE
        SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
            SELECT substr(r.rolname, length('federation_node_') + 1) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
            WHERE starts_with(r.rolname, 'federation_node_') AND r.rolvaliduntil <= clock_timestamp()
                AND CASE WHEN pg_has_role(r.oid, 'USAGE') THEN pg_terminate_backend(a.pid) END
        $$
        """  # noqa: S608 - it is ours
    )
    op.execute("REVOKE ALL ON FUNCTION federation_end_expired() FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION federation_end_expired() TO federation_service")


def downgrade() -> None:
    op.execute("DROP FUNCTION federation_end_expired()")
