"""Who acts as the role of agents is held to his streams, whoever has logged in."""

import sqlalchemy as sa
from alembic import op

revision: str = "0037"
down_revision: str | None = "0036"
branch_labels: str | None = None
depends_on: str | None = None

# The role that was set, in a function that runs as its owner too; `none` where none was.
ACTING = "coalesce(nullif(current_setting('role'), 'none'), session_user)"
# A superuser is a member of all roles, and the tables' owner of none.
HELD = f"pg_has_role({ACTING}, 'federation_app', 'USAGE') AND NOT pg_has_role({ACTING}, 'federation_service', 'USAGE')"


def upgrade() -> None:
    _hold(HELD)


def downgrade() -> None:
    _hold("session_user = 'federation_app'")


def _hold(who: str) -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION federation_next_position(stream text) RETURNS bigint LANGUAGE plpgsql VOLATILE
        SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
        DECLARE
            taken bigint;
        BEGIN
            IF {who} AND stream NOT LIKE 'inbox:%' AND federation_stream(stream, NULL) IS NULL THEN
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
