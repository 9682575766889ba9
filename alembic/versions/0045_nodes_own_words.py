"""A node's login votes, decides and states nothing, tells nothing of keys and tokens, and only what can be numbered, told and read."""

import sqlalchemy as sa
from alembic import op

revision: str = "0045"
down_revision: str | None = "0044"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0041, 0042 and 0044.
IS_NODE = "(SELECT session_user ~ '^federation_node(service)?_')"
ROLES = "federation_app, federation_service"
# By these who verifies an export knows whose key signs, what was stated and who votes; and beat how far it has read.
OTHERS = r"^(agent\.(added|key|token)|consensus|feed|graph|node\.(admitted|removed)|signer\.revoked|statement)"
# In these none of its work writes.
DECIDED = ("ballots", "consensus", "consensus_acks", "role_assignments", "statements")
# A type is a part of the name of a topic; of what is larger, or deeper, than so, no line can be made, and then none gets a number any more.
TYPE, LONGEST, LARGEST, DEEPEST = r"^[a-z_]{1,40}\.[a-z_]{1,40}$", 8_000, 2**24, 64
TAKES = """
            IF place IS NULL THEN
"""
ASKS = """
            IF session_user ~ '^federation_node(service)?_' THEN
                IF NOT federation_node_tells(type, payload, concat(stream, actor, conversation, trace), stream) THEN
                    RAISE EXCEPTION 'event % of stream % is none that a node tells', left(type, 100), left(stream, 100)
                        USING ERRCODE = 'insufficient_privilege';
                END IF;
            END IF;
"""
# Each who places work, or looks who there is, reads these rows of all nodes, and could read none any more.
FLAT = "(array_ndims({0}) IS NULL OR array_ndims({0}) = 1) AND array_position({0}, NULL) IS NULL"
READABLE = f"""
    {" AND ".join(FLAT.format(column) for column in ("tags", "engines", "models", "missing"))}
    AND federation_gpus_fit(gpus) AND jsonb_typeof(load) = 'object' AND concurrency BETWEEN 1 AND 10000
    AND least(last_seen_at, announced_at, left_at, lost_at) >= '2000-01-01 00:00:00+00'
    AND greatest(last_seen_at, announced_at, left_at, lost_at) < '9999-01-01 00:00:00+00'
"""


def upgrade() -> None:
    op.execute(
        f"""
        CREATE FUNCTION federation_node_tells(type text, payload jsonb, words text, stream text) RETURNS boolean
        LANGUAGE plpgsql STABLE {_path()} AS $$
        DECLARE
            node text := regexp_replace(session_user::text, '^federation_node(service)?_', '');
        BEGIN
            RETURN type ~ '{TYPE}' AND type !~ '{OTHERS}' AND stream <> 'graph' AND length(words) <= {LONGEST}
                AND jsonb_typeof(payload) = 'object' AND pg_column_size(payload) <= {LARGEST} AND NOT jsonb_path_exists(payload, '$.**{{{DEEPEST}}}')
                AND CASE type
                    WHEN 'signer.registered' THEN payload ->> 'name' = 'node:' || node
                    WHEN 'service.registered' THEN payload ->> 'name' IN ('service:worker', 'service:outbox')
                    ELSE true
                END;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION federation_node_tells(text, jsonb, text, text) FROM PUBLIC")
    _change_append(TAKES, ASKS.rstrip("\n") + TAKES)
    # All events are appended by that function.
    op.execute("DROP POLICY node_insert ON events")
    for table in ("events", *DECIDED):
        op.execute(f"CREATE POLICY no_node_insert ON {table} AS RESTRICTIVE FOR INSERT TO {ROLES} WITH CHECK (NOT {IS_NODE})")
    op.execute(f"CREATE POLICY no_node_update ON consensus AS RESTRICTIVE FOR UPDATE TO {ROLES} USING (NOT {IS_NODE})")
    op.execute(
        f"""
        CREATE FUNCTION federation_gpus_fit(gpus jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE {_path()} AS $$
        BEGIN
            RETURN jsonb_typeof(gpus) = 'array' AND NOT EXISTS (
                SELECT FROM jsonb_array_elements(CASE jsonb_typeof(gpus) WHEN 'array' THEN gpus ELSE '[]' END) gpu
                WHERE CASE jsonb_typeof(gpu) WHEN 'object' THEN
                    gpu - ARRAY['kind', 'vram_gib'] <> '{{}}' OR jsonb_typeof(gpu -> 'kind') IS DISTINCT FROM 'string'
                    OR jsonb_typeof(gpu -> 'vram_gib') IS DISTINCT FROM 'number' OR (gpu ->> 'vram_gib')::numeric NOT BETWEEN 0 AND 1e6
                ELSE true END
            );
        END $$
        """  # noqa: S608 - it is ours
    )
    # One that lives announces itself anew.
    op.execute(f"DELETE FROM nodes WHERE NOT ({READABLE})")  # noqa: S608 - it is ours
    op.create_check_constraint(op.f("ck_nodes_readable"), "nodes", READABLE)


def downgrade() -> None:
    op.drop_constraint(op.f("ck_nodes_readable"), "nodes")
    op.execute("DROP FUNCTION federation_gpus_fit(jsonb)")
    op.execute("DROP POLICY no_node_update ON consensus")
    for table in ("events", *DECIDED):
        op.execute(f"DROP POLICY no_node_insert ON {table}")
    op.execute(
        f"CREATE POLICY node_insert ON events AS RESTRICTIVE FOR INSERT TO federation_service "
        f"WITH CHECK (NOT {IS_NODE} OR (federation_reached(stream, position)))"
    )
    _change_append(ASKS.rstrip("\n") + TAKES, TAKES)
    op.execute("DROP FUNCTION federation_node_tells(text, jsonb, text, text)")


def _path() -> str:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    return f"SET search_path = pg_catalog, {schema}, pg_temp"


def _change_append(before: str, after: str) -> None:
    oid = "federation_append(text, bigint, text, text, text, uuid, jsonb, text)"
    definition = op.get_bind().scalar(sa.text(f"SELECT pg_get_functiondef('{oid}'::regprocedure)"))
    assert definition.count(before) == 1
    op.execute(definition.replace(before, after))
