"""Counts what was said to all of a conversation since its last summary, so that beat finds full windows without counting messages."""

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("conversations", sa.Column("unsummarised", sa.Integer(), server_default="0", nullable=False))
    # Nobody sends meanwhile: a new message needs its conversation's row, and the new column has locked the table.
    op.execute(
        """
        UPDATE conversations c SET unsummarised = counted.messages
        FROM (
            SELECT m.conversation_id, count(*) AS messages
            FROM messages m
            LEFT JOIN (SELECT conversation_id, max(to_position) AS upto FROM summaries GROUP BY conversation_id) s USING (conversation_id)
            WHERE m.position > coalesce(s.upto, 0) AND (m.recipient IS NULL OR m.conversation_id LIKE 'direct:%')
            GROUP BY m.conversation_id
        ) counted
        WHERE counted.conversation_id = c.id
        """
    )
    op.add_column("conversations", sa.Column("updated_by", sa.Text(), nullable=True))
    # The count is written by who speaks to all, and by who summarises.
    op.execute(
        """
        UPDATE conversations c SET updated_by = coalesce(
            (SELECT actor FROM events e
             WHERE e.conversation_id = c.id AND (e.type = 'conversation.summarised'
                 OR e.type = 'message.sent' AND (e.payload->>'to' IS NULL OR c.id LIKE 'direct:%'))
             ORDER BY e.created_at DESC LIMIT 1),
            c.created_by)
        """
    )
    op.alter_column("conversations", "updated_by", nullable=False, server_default=sa.text("nullif(current_setting('federation.actor', true), '')"))
    op.create_index(op.f("ix_conversations_unsummarised"), "conversations", ["unsummarised"])


def downgrade() -> None:
    op.drop_index(op.f("ix_conversations_unsummarised"), table_name="conversations")
    op.drop_column("conversations", "updated_by")
    op.drop_column("conversations", "unsummarised")
