"""The graph: what messages and findings say of things, seen by those who see these messages and findings."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0033"
down_revision: str | None = "0032"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"
# As in 0013. The conversation first, because it is asked once a statement.
MINE = "(SELECT federation_conversations())"
SEEN = f"""
    conversation_id IN {MINE} AND CASE source
        WHEN 'message' THEN EXISTS (SELECT FROM messages m WHERE m.id = source_id OFFSET 0)
        WHEN 'finding' THEN EXISTS (SELECT FROM agent_findings f WHERE f.id = source_id OFFSET 0)
    END
"""  # noqa: S608 - it is ours


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "graph_relations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        _moment("said_at"),
        sa.Column("actor", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        _moment("created_at"),
        sa.CheckConstraint("source IN ('message', 'finding')", name=op.f("ck_graph_relations_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_graph_relations")),
        sa.UniqueConstraint("source_id", "subject", "relation", "object", name=op.f("uq_graph_relations_source_id_subject_relation_object")),
    )
    op.create_index("ix_graph_relations_subject", "graph_relations", ["subject", "said_at"])
    op.create_index("ix_graph_relations_object", "graph_relations", ["object", "said_at"])
    op.execute("GRANT SELECT ON graph_relations TO federation_app, federation_auditor")
    op.execute("GRANT SELECT, INSERT ON graph_relations TO federation_service")
    op.execute(f"CREATE POLICY app_select ON graph_relations FOR SELECT TO federation_app USING ({SEEN})")
    op.execute("CREATE POLICY service ON graph_relations TO federation_service USING (true) WITH CHECK (true)")
    op.execute("CREATE POLICY auditor ON graph_relations FOR SELECT TO federation_auditor USING (true)")
    op.execute(
        """
        DO $$ BEGIN
            EXECUTE format('CREATE POLICY owner ON graph_relations TO %I USING (true) WITH CHECK (true)',
                (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'graph_relations'::regclass));
        END $$
        """
    )
    op.execute("ALTER TABLE graph_relations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("graph_relations")
