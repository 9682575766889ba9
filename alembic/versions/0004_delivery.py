"""Deliveries tell which message they were of, so that one that was given back in good order is no redelivery."""

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    for name in ("retries", "returns"):
        op.add_column("execution_deliveries", sa.Column(name, sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    for name in ("returns", "retries"):
        op.drop_column("execution_deliveries", name)
