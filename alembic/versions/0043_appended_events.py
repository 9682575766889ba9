"""An event is appended by one function, which holds it to its writer's streams once and takes its position with it."""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision: str = "0043"
down_revision: str | None = "0042"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0013 and 0037.
ME = "nullif(current_setting('federation.actor', true), '')"
ACTING = "coalesce(nullif(current_setting('role'), 'none'), session_user)"
HELD = f"pg_has_role({ACTING}, 'federation_app', 'USAGE') AND NOT pg_has_role({ACTING}, 'federation_service', 'USAGE')"
# What asks tables only where it must, and as it was: a condition with a query in it is run as one, also where its first half has the answer.
STREAM = {
    """
            IF place IS NOT NULL THEN
                IF place < 1 OR NOT EXISTS (SELECT FROM streams s WHERE s.name = stream AND s.position >= place) THEN
                    RETURN NULL;
                END IF;
            END IF;
""": """
            IF place < 1 OR place IS NOT NULL AND NOT EXISTS (SELECT FROM streams s WHERE s.name = stream AND s.position >= place) THEN
                RETURN NULL;
            END IF;
""",
    """
            IF me IS NULL OR conversation IS NULL THEN
                RETURN NULL;
            END IF;
            IF conversation NOT IN ('', 'commons') THEN
                IF NOT EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = conversation AND m.agent = me) THEN
                    RETURN NULL;
                END IF;
            END IF;
            RETURN CASE WHEN kind IN ('execution', 'claim') THEN '' ELSE conversation END;
""": """
            IF me IS NOT NULL AND (conversation IN ('', 'commons') OR EXISTS (
                SELECT FROM conversation_members m WHERE m.conversation_id = conversation AND m.agent = me
            )) THEN
                RETURN CASE WHEN kind IN ('execution', 'claim') THEN '' ELSE conversation END;
            END IF;
            RETURN NULL;
""",
}
APPEND = "federation_append(text, bigint, text, text, text, uuid, jsonb, text)"


def upgrade() -> None:
    _change_stream({before: after for after, before in STREAM.items()})
    # Whether the last position was taken together with its event: then nobody has to look for that at the end of the transaction.
    op.add_column("streams", sa.Column("told", sa.Boolean(), server_default=sa.false(), nullable=False))
    _look_at("NOT NEW.told AND NOT starts_with(NEW.name, 'inbox:')")
    _take("(name, position, told) VALUES (stream, 1, false)", "position = s.position + 1, told = false")
    # What the policy on `events`, the next position and the trigger on `streams` hold plain SQL to, each with work of its own, is held to here in
    # one place. Few expressions, because each is made ready anew in each transaction.
    op.execute(
        f"""
        CREATE FUNCTION federation_append(
            stream text, place bigint, type text, actor text, conversation text, session uuid, payload jsonb, trace text
        ) RETURNS void LANGUAGE plpgsql VOLATILE {_definer()} AS $$
        BEGIN
            IF {HELD} AND (actor IS DISTINCT FROM {ME} OR coalesce(conversation, '') IS DISTINCT FROM federation_stream(stream, place)) THEN
                RAISE EXCEPTION 'stream % is not one that % writes in, at place %, for % and conversation %',
                    stream, {ME}, coalesce(place::text, 'next'), actor, conversation USING ERRCODE = 'insufficient_privilege';
            END IF;
            IF place IS NULL THEN
                INSERT INTO streams AS s (name, position, told) VALUES (stream, 1, true)
                ON CONFLICT (name) DO UPDATE SET position = s.position + 1, told = true
                RETURNING s.position INTO place;
            END IF;
            INSERT INTO events (stream, position, type, actor, conversation_id, session_id, payload, trace_id)
            VALUES (stream, place, type, actor, conversation, session, payload, trace);
        END $$
        """  # noqa: S608 - it is ours
    )
    op.execute(f"REVOKE ALL ON FUNCTION {APPEND} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {APPEND} TO federation_app, federation_service")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {APPEND}")
    _take("(name, position) VALUES (stream, 1)", "position = s.position + 1")
    _look_at("NOT starts_with(NEW.name, 'inbox:')")
    op.drop_column("streams", "told")
    _change_stream(STREAM)


def _definer() -> str:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    return f"SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp"


def _change_stream(changes: Mapping[str, str]) -> None:
    definition = op.get_bind().scalar(sa.text("SELECT pg_get_functiondef('federation_stream(text, bigint)'::regprocedure)"))
    for before, after in changes.items():
        assert definition.count(before) == 1
        definition = definition.replace(before, after)
    op.execute(definition)


def _look_at(taken: str) -> None:
    op.execute("DROP TRIGGER told ON streams")
    op.execute(
        f"""
        CREATE CONSTRAINT TRIGGER told AFTER INSERT OR UPDATE ON streams DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN ({taken}) EXECUTE FUNCTION federation_place_told()
        """
    )


def _take(first: str, next_one: str) -> None:
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION federation_next_position(stream text) RETURNS bigint LANGUAGE plpgsql VOLATILE {_definer()} AS $$
        DECLARE
            taken bigint;
        BEGIN
            IF {HELD} AND stream NOT LIKE 'inbox:%' AND federation_stream(stream, NULL) IS NULL THEN
                RAISE EXCEPTION 'stream % is not one that % writes in', stream, {ME} USING ERRCODE = 'insufficient_privilege';
            END IF;
            INSERT INTO streams AS s {first}
            ON CONFLICT (name) DO UPDATE SET {next_one}
            RETURNING s.position INTO taken;
            RETURN taken;
        END $$
        """
    )
