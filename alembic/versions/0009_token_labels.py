"""A token says where it is used, so that one of several can be told from the others."""

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("agent_tokens", sa.Column("label", sa.Text(), server_default="", nullable=False))
    op.execute("GRANT SELECT (label) ON agent_tokens TO federation_auditor")


def downgrade() -> None:
    op.drop_column("agent_tokens", "label")
