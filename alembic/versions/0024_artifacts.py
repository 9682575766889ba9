"""Artifacts: files that the members of a conversation share, in versions that nobody changes; what is in them lies in a folder."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0024"
down_revision: str | None = "0023"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0013.
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MEMBERS = "conversation_id IN (SELECT federation_conversations())"
APP = {"SELECT": f"USING ({MEMBERS})", "INSERT": f"WITH CHECK ({MEMBERS} AND created_by = {ME})"}


def upgrade() -> None:
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("kind IN ('design', 'code', 'review', 'tests', 'other')", name=op.f("ck_artifacts_kind")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_artifacts_version")),
        sa.CheckConstraint("size >= 0", name=op.f("ck_artifacts_size")),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_artifacts_sha256")),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_artifacts_conversation_id_conversations")),
        sa.ForeignKeyConstraint(["task_id"], ["agent_tasks.id"], name=op.f("fk_artifacts_task_id_agent_tasks")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("conversation_id", "name", "version", name=op.f("uq_artifacts_conversation_id_name_version")),
    )
    op.execute(
        "CREATE TRIGGER artifacts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON artifacts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute("GRANT SELECT, INSERT ON artifacts TO federation_app, federation_service")
    op.execute("GRANT SELECT ON artifacts TO federation_auditor")
    for verb, rows in APP.items():
        op.execute(f"CREATE POLICY app_{verb.lower()} ON artifacts FOR {verb} TO federation_app {rows}")
    op.execute("CREATE POLICY service ON artifacts TO federation_service USING (true) WITH CHECK (true)")
    op.execute("CREATE POLICY auditor ON artifacts FOR SELECT TO federation_auditor USING (true)")
    op.execute(
        """
        DO $$ BEGIN
            EXECUTE format('CREATE POLICY owner ON artifacts TO %I USING (true) WITH CHECK (true)',
                (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'artifacts'::regclass));
        END $$
        """
    )
    op.execute("ALTER TABLE artifacts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("artifacts")
