"""Schedules of summaries, set for a conversation by its members; summaries of summaries; and why what a model wrote was not taken."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0029"
down_revision: str | None = "0026"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0013.
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MEMBERS = "conversation_id IN (SELECT federation_conversations())"
APP = {
    "SELECT": f"USING ({MEMBERS})",
    "INSERT": f"WITH CHECK ({MEMBERS} AND created_by = {ME})",
    "UPDATE": f"USING ({MEMBERS})",
    "DELETE": f"USING ({MEMBERS})",
}


def upgrade() -> None:
    op.create_table(
        "summary_schedules",
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=True),
        sa.Column("messages", sa.Integer(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("updated_by", sa.Text(), server_default=sa.text("nullif(current_setting('federation.actor', true), '')"), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("cron IS NOT NULL OR messages IS NOT NULL", name=op.f("ck_summary_schedules_some")),
        sa.CheckConstraint("messages >= 2", name=op.f("ck_summary_schedules_messages")),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_summary_schedules_conversation_id_conversations")),
        sa.PrimaryKeyConstraint("conversation_id", name=op.f("pk_summary_schedules")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON summary_schedules TO federation_app, federation_service")
    op.execute("GRANT SELECT ON summary_schedules TO federation_auditor")
    for verb, rows in APP.items():
        op.execute(f"CREATE POLICY app_{verb.lower()} ON summary_schedules FOR {verb} TO federation_app {rows}")
    op.execute("CREATE POLICY service ON summary_schedules TO federation_service USING (true) WITH CHECK (true)")
    op.execute("CREATE POLICY auditor ON summary_schedules FOR SELECT TO federation_auditor USING (true)")
    op.execute(
        """
        DO $$ BEGIN
            EXECUTE format('CREATE POLICY owner ON summary_schedules TO %I USING (true) WITH CHECK (true)',
                (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'summary_schedules'::regclass));
        END $$
        """
    )
    op.execute("ALTER TABLE summary_schedules ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.add_column("summaries", sa.Column("level", sa.Integer(), server_default="1", nullable=False))
    op.add_column("summaries", sa.Column("rejected", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_summaries_level"), "summaries", "level >= 1")
    op.drop_constraint(op.f("uq_summaries_conversation_id_from_position"), "summaries")
    op.create_unique_constraint(op.f("uq_summaries_conversation_id_level_from_position"), "summaries", ["conversation_id", "level", "from_position"])


def downgrade() -> None:
    # The older program takes each summary for one of messages.
    op.execute("DELETE FROM summaries WHERE level > 1")
    op.drop_constraint(op.f("uq_summaries_conversation_id_level_from_position"), "summaries")
    op.create_unique_constraint(op.f("uq_summaries_conversation_id_from_position"), "summaries", ["conversation_id", "from_position"])
    op.drop_column("summaries", "rejected")
    op.drop_column("summaries", "level")
    op.drop_table("summary_schedules")
