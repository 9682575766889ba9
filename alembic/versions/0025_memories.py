"""What agents remember: who remembers something says who may see it and alone forgets it; operators see that it is there, and not what it says."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0025"
down_revision: str | None = "0024"
branch_labels: str | None = None
depends_on: str | None = None

LEVELS = ("all", "members", "role", "nobody")
# As in 0021.
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MINE = "(SELECT federation_conversations())"
MY_ROLE = f"(SELECT role FROM agents WHERE name = {ME})"  # noqa: S608 - it is ours
FOR_ME = f"visibility = 'all' OR visibility = 'members' AND audience IN {MINE} OR visibility = 'role' AND audience = {MY_ROLE}"
# For others as one of them, for nobody in one's own name.
MY_OWN = f"created_by = {ME} AND ({FOR_ME} OR visibility = 'nobody' AND audience = {ME})"
APP = {
    "SELECT": f"USING (created_by = {ME} OR {ME} IS NOT NULL AND ({FOR_ME}))",
    "INSERT": f"WITH CHECK ({MY_OWN})",
    "UPDATE": f"USING (created_by = {ME}) WITH CHECK ({MY_OWN})",
    "DELETE": f"USING (created_by = {ME})",
}
# Others than its readers may know whose it is, and that the log tells the same of it: not the text, nor what would confirm a guess.
TOLD = "id, visibility, audience, digest, vector_at, created_by, created_at, updated_by"


def upgrade() -> None:
    op.create_table(
        "memories",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("about", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("salt", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("words", postgresql.TSVECTOR(), nullable=False),
        sa.Column("vector_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("updated_by", sa.Text(), server_default=sa.text("nullif(current_setting('federation.actor', true), '')"), nullable=False),
        sa.CheckConstraint(f"visibility IN ({', '.join(map(repr, LEVELS))})", name=op.f("ck_memories_visibility")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_memories_message_id_messages")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_memories")),
    )
    op.create_index("ix_memories_said", "memories", ["created_by", "visibility", "audience", sa.text("md5(content)")], unique=True)
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON memories TO federation_app")
    for role in ("federation_service", "federation_auditor"):
        op.execute(f"GRANT SELECT ({TOLD}) ON memories TO {role}")
    for verb, rows in APP.items():
        op.execute(f"CREATE POLICY app_{verb.lower()} ON memories FOR {verb} TO federation_app {rows}")
    op.execute("CREATE POLICY service ON memories TO federation_service USING (true) WITH CHECK (true)")
    op.execute("CREATE POLICY auditor ON memories FOR SELECT TO federation_auditor USING (true)")
    op.execute(
        """
        DO $$ BEGIN
            EXECUTE format('CREATE POLICY owner ON memories TO %I USING (true) WITH CHECK (true)',
                (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'memories'::regclass));
        END $$
        """
    )
    op.execute("ALTER TABLE memories ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("memories")
