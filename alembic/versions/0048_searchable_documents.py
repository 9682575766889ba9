"""Documents are found by their words, each as a whole, and a run says itself since when its tree is searchable."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0048"
down_revision: str | None = "0047"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("words_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.execute(
        """
        UPDATE documents SET words_at = found.at
        FROM (SELECT document_id, max(words_at) AS at FROM chunks GROUP BY document_id HAVING bool_and(words_at IS NOT NULL)) AS found
        WHERE found.document_id = documents.id
        """
    )
    op.create_index("ix_documents_unsearchable", "documents", ["folder_id"], unique=False, postgresql_where="words_at IS NULL")
    op.drop_index("ix_chunks_unsearchable", table_name="chunks", postgresql_where="words_at IS NULL")
    op.drop_column("chunks", "words_at")
    op.add_column("index_runs", sa.Column("searchable_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.execute(
        """
        UPDATE index_runs SET searchable_at = coalesce(finished_at, created_at)
        WHERE finished_at IS NOT NULL OR EXISTS (SELECT FROM index_batches b WHERE b.run_id = index_runs.id)
        """
    )
    op.execute("GRANT UPDATE (words_at) ON documents TO federation_app")
    op.execute("GRANT UPDATE (searchable_at) ON index_runs TO federation_app")


def downgrade() -> None:
    op.drop_column("index_runs", "searchable_at")
    op.add_column("chunks", sa.Column("words_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.execute("UPDATE chunks SET words_at = d.words_at FROM documents d WHERE d.id = document_id")
    op.create_index("ix_chunks_unsearchable", "chunks", ["document_id"], unique=False, postgresql_where="words_at IS NULL")
    op.execute("GRANT UPDATE (words_at) ON chunks TO federation_app")
    op.drop_index("ix_documents_unsearchable", table_name="documents", postgresql_where="words_at IS NULL")
    op.drop_column("documents", "words_at")
