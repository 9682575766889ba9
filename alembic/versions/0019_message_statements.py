"""Who may read a message sees what its sender stated about it, and so whether his own key signed it."""

from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | None = None
depends_on: str | None = None

ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
BEFORE = f"""
    actor = {ME} OR subject LIKE 'task:%'
    AND EXISTS (SELECT FROM agent_tasks t WHERE t.id = CASE WHEN substr(subject, 6) ~ {UUID} THEN substr(subject, 6)::uuid END)
    OR subject LIKE 'consensus:%' AND EXISTS (
        SELECT FROM consensus c
        WHERE c.id = CASE WHEN split_part(subject, ':', 2) ~ {UUID} THEN split_part(subject, ':', 2)::uuid END
            AND (c.shown OR c.state <> 'open')
    )
"""  # noqa: S608 - it is ours
# It looks through the policy of messages, each by its key, as in 0013.
STATEMENTS = f"""
    {BEFORE} OR subject LIKE 'message:%' AND EXISTS (
        SELECT FROM messages m WHERE m.id = CASE WHEN substr(subject, 9) ~ {UUID} THEN substr(subject, 9)::uuid END OFFSET 0
    )
"""


def upgrade() -> None:
    _show(STATEMENTS)


def downgrade() -> None:
    _show(BEFORE)


def _show(rows: str) -> None:
    op.execute("DROP POLICY app_select ON statements")
    op.execute(f"CREATE POLICY app_select ON statements FOR SELECT TO federation_app USING ({rows})")
