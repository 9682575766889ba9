"""Events that an agent may see beside its own: what happened in its conversations, as far as it sees the rows that they tell of, and claims."""

from alembic import op

revision: str = "0031"
down_revision: str | None = "0030"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0013.
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MINE = "(SELECT federation_conversations())"
UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
# These tell of rows that all members of the conversation see; ballots, which some see only at the end, and statements are not among them.
OF_ALL_MEMBERS = """
    split_part(type, '.', 1) IN ('task', 'session', 'finding', 'hypothesis', 'action', 'artifact', 'conversation', 'role')
    OR type IN ('consensus.requested', 'consensus.options_changed', 'consensus.acknowledged', 'consensus.closed', 'consensus.applied')
"""
MESSAGE = f"CASE WHEN payload ->> 'message_id' ~ {UUID} THEN (payload ->> 'message_id')::uuid END"
TASK = f"CASE WHEN substr(stream, 12) ~ {UUID} THEN substr(stream, 12)::uuid END"
SEEN = f"""
    actor = {ME}
    OR conversation_id IN {MINE} AND ({OF_ALL_MEMBERS} OR type = 'message.sent' AND EXISTS (SELECT FROM messages m WHERE m.id = {MESSAGE} OFFSET 0))
    OR {ME} IS NOT NULL AND type LIKE 'claim.%'
        AND (stream NOT LIKE 'claim:task:%' OR EXISTS (SELECT FROM agent_tasks t WHERE t.id = {TASK} OFFSET 0))
"""  # noqa: S608 - it is ours


def upgrade() -> None:
    # They come in the order of time, so that a few pages say where a day begins.
    op.create_index("ix_events_created_at", "events", ["created_at"], postgresql_using="brin")
    op.execute("DROP POLICY app_select ON events")
    op.execute(f"CREATE POLICY app_select ON events FOR SELECT TO federation_app USING ({SEEN})")


def downgrade() -> None:
    op.execute("DROP POLICY app_select ON events")
    op.execute(f"CREATE POLICY app_select ON events FOR SELECT TO federation_app USING (actor = {ME})")
    op.drop_index("ix_events_created_at", "events")
