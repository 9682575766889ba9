"""A node's login makes known and revokes no key but the node's own."""

from alembic import op

revision: str = "0042"
down_revision: str | None = "0041"
branch_labels: str | None = None
depends_on: str | None = None

# Who has logged in, whatever role was set.
OWN = """(
    session_user !~ '^federation_node(service)?_'
    OR name = 'node:' || regexp_replace(session_user::text, '^federation_node(service)?_', '')
)"""


def upgrade() -> None:
    op.execute(f"CREATE POLICY own_node_insert ON signers AS RESTRICTIVE FOR INSERT TO federation_app, federation_service WITH CHECK ({OWN})")
    op.execute(f"CREATE POLICY own_node_update ON signers AS RESTRICTIVE FOR UPDATE TO federation_app, federation_service USING ({OWN})")


def downgrade() -> None:
    op.execute("DROP POLICY own_node_update ON signers")
    op.execute("DROP POLICY own_node_insert ON signers")
