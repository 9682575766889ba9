"""How an answer of a model came about: who was asked, the time to its first part; the digest of a served model may be unknown."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0026"
down_revision: str | None = "0025"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("model_runs", sa.Column("first_part_s", sa.Double(), nullable=True))
    op.add_column("model_runs", sa.Column("route", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False))
    op.alter_column("model_runs", "model_digest", existing_type=sa.Text(), nullable=True)


def downgrade() -> None:
    # The rows are append-only for all but the owner, and whoever goes back has no word for what nobody knows but an empty one.
    op.execute("ALTER TABLE model_runs DISABLE TRIGGER USER")
    op.execute("UPDATE model_runs SET model_digest = '' WHERE model_digest IS NULL")
    op.execute("ALTER TABLE model_runs ENABLE TRIGGER USER")
    op.alter_column("model_runs", "model_digest", existing_type=sa.Text(), nullable=False)
    op.drop_column("model_runs", "route")
    op.drop_column("model_runs", "first_part_s")
