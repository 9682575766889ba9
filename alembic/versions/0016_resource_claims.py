"""Claims on any resource: names that overlap, and the line of those who wait."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
ANYBODY = f"{ME} IS NOT NULL"
UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
OF_A_TASK = "resource LIKE 'task:%'"
SEEN = f"""
    resource NOT LIKE 'task:%'
    OR EXISTS (SELECT FROM agent_tasks t WHERE t.id = CASE WHEN substr(resource, 6) ~ {UUID} THEN substr(resource, 6)::uuid END OFFSET 0)
"""
# Nobody ends or takes what another holds; a task's claim ends with the task, by whoever may cancel it.
MINE_OR_OVER = f"holder = {ME} OR released_at IS NOT NULL OR expires_at <= clock_timestamp()"
CLAIMS = {
    "INSERT": f"WITH CHECK (({SEEN}) AND holder = {ME})",
    "UPDATE": f"USING (({SEEN}) AND ({OF_A_TASK} OR {MINE_OR_OVER})) WITH CHECK (holder = {ME} OR released_at IS NOT NULL)",
}
OWN = f"({SEEN}) AND holder = {ME}"
WAITERS = {"SELECT": f"USING ({SEEN})", "INSERT": f"WITH CHECK ({OWN})", "UPDATE": f"USING ({OWN})", "DELETE": f"USING ({OWN})"}


def upgrade() -> None:
    op.create_index("ix_claims_resource", "claims", ["resource"], postgresql_ops={"resource": "text_pattern_ops"})
    op.create_index("ix_claims_held_by", "claims", ["holder"], postgresql_where=sa.text("released_at IS NULL"))
    op.create_table(
        "claim_waiters",
        sa.Column("place", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("since", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("present_until", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_claim_waiters")),
        sa.UniqueConstraint("resource", "holder", name=op.f("uq_claim_waiters_resource_holder")),
    )
    op.create_index("ix_claim_waiters_resource", "claim_waiters", ["resource"], postgresql_ops={"resource": "text_pattern_ops"})
    # A name ends with ** if it is a folder with all below it; what is left without them is what the names of these begin with.
    op.execute(
        """
        CREATE FUNCTION federation_overlap(one text, other text) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN one = other
            OR right(one, 2) = '**' AND (starts_with(other, left(one, -2)) OR other || '/' = left(one, -2))
            OR right(other, 2) = '**' AND (starts_with(one, left(other, -2)) OR one || '/' = left(other, -2))
        """
    )
    for verb, rows in CLAIMS.items():
        op.execute(f"DROP POLICY app_{verb.lower()} ON claims")
        op.execute(f"CREATE POLICY app_{verb.lower()} ON claims FOR {verb} TO federation_app {rows}")
    op.execute(f"GRANT {', '.join(WAITERS)} ON claim_waiters TO federation_app, federation_service")
    op.execute("GRANT SELECT ON claim_waiters TO federation_auditor")
    for verb, rows in WAITERS.items():
        op.execute(f"CREATE POLICY app_{verb.lower()} ON claim_waiters FOR {verb} TO federation_app {rows}")
    op.execute("CREATE POLICY service ON claim_waiters TO federation_service USING (true) WITH CHECK (true)")
    op.execute("CREATE POLICY auditor ON claim_waiters FOR SELECT TO federation_auditor USING (true)")
    op.execute(
        """
        DO $$ BEGIN
            EXECUTE format('CREATE POLICY owner ON claim_waiters TO %I USING (true) WITH CHECK (true)',
                (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'claim_waiters'::regclass));
        END $$
        """
    )
    op.execute("ALTER TABLE claim_waiters ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("claim_waiters")
    for verb, rows in {"INSERT": f"WITH CHECK ({SEEN})", "UPDATE": f"USING ({SEEN})"}.items():
        op.execute(f"DROP POLICY app_{verb.lower()} ON claims")
        op.execute(f"CREATE POLICY app_{verb.lower()} ON claims FOR {verb} TO federation_app {rows}")
    op.execute("DROP FUNCTION federation_overlap(text, text)")
    op.drop_index("ix_claims_held_by", "claims")
    op.drop_index("ix_claims_resource", "claims")
    # The older program asks nobody who waits, and knows no names that overlap: what is held ends, so that it may be claimed anew.
    op.execute("UPDATE claims SET released_at = clock_timestamp() WHERE released_at IS NULL AND resource NOT LIKE 'task:%'")
