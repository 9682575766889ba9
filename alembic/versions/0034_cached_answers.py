"""Answers of models that are kept for those who may read where they were asked for, within bounds that hold for all of them together."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0034"
down_revision: str | None = "0033"
branch_labels: str | None = None
depends_on: str | None = None

# As in 0013.
CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"
ME = f"(SELECT {CURRENT_ACTOR})"
MINE = "(SELECT federation_conversations())"
READERS = f"CASE WHEN conversation_id IS NULL THEN created_by = {ME} ELSE conversation_id IN {MINE} END"
# What a model has said to who adds it, and no words of his own.
SAID = """
    EXISTS (
        SELECT FROM model_runs r
        WHERE r.execution_id = cached_answers.execution_id AND r.completion = cached_answers.completion AND r.cached IS NULL OFFSET 0
    )
"""
APP = {"SELECT": f"USING ({READERS})", "UPDATE": f"USING ({READERS})", "INSERT": f"WITH CHECK (created_by = {ME} AND {READERS} AND {SAID})"}
DROP = "federation_drop_answers(integer, integer, interval)"


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False)


def upgrade() -> None:
    # What was answered out of the cache: by which entry, how near, how old.
    op.add_column("model_runs", sa.Column("cached", postgresql.JSONB(), nullable=True))
    op.create_table(
        "cached_answers",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("completion", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_digest", sa.Text(), nullable=True),
        _moment("used_at"),
        sa.Column("created_by", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        _moment("created_at"),
        sa.Column("updated_by", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name=op.f("fk_cached_answers_conversation_id_conversations"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_cached_answers_execution_id_executions"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_cached_answers")),
    )
    said = ["key", sa.text("md5(prompt)"), "model", sa.text("coalesce(model_digest, '')")]
    op.create_index("ix_cached_answers_said", "cached_answers", said, unique=True)
    _secure()
    _make_function()


def _secure() -> None:
    for role in ("federation_app", "federation_service"):
        op.execute(f"GRANT SELECT, INSERT, UPDATE (used_at, updated_by) ON cached_answers TO {role}")
    # An operator drops one that is wrong.
    op.execute("GRANT DELETE ON cached_answers TO federation_service")
    op.execute("GRANT SELECT ON cached_answers TO federation_auditor")
    for verb, rows in APP.items():
        op.execute(f"CREATE POLICY app_{verb.lower()} ON cached_answers FOR {verb} TO federation_app {rows}")
    op.execute("CREATE POLICY service ON cached_answers TO federation_service USING (true) WITH CHECK (true)")
    op.execute("CREATE POLICY auditor ON cached_answers FOR SELECT TO federation_auditor USING (true)")
    op.execute(
        """
        DO $$ BEGIN
            EXECUTE format('CREATE POLICY owner ON cached_answers TO %I USING (true) WITH CHECK (true)',
                (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'cached_answers'::regclass));
        END $$
        """
    )
    op.execute("ALTER TABLE cached_answers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def _make_function() -> None:
    """Make what looks past the policies: who adds an answer makes room for it among all, and learns of others' nothing but ids."""
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(
        f"""
        CREATE FUNCTION federation_drop_answers(in_each integer, in_all integer, age interval) RETURNS SETOF uuid
        LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
            DELETE FROM cached_answers WHERE execution_id IN (
                SELECT execution_id FROM (
                    SELECT execution_id, created_at,
                        row_number() OVER (PARTITION BY conversation_id, CASE WHEN conversation_id IS NULL THEN created_by END
                            ORDER BY used_at DESC, execution_id) AS of_each,
                        row_number() OVER (ORDER BY used_at DESC, execution_id) AS of_all
                    FROM cached_answers WHERE created_at >= clock_timestamp() - age
                ) fresh WHERE of_each > in_each OR of_all > in_all
            ) OR created_at < clock_timestamp() - age
            RETURNING execution_id
        $$
        """  # noqa: S608 - it is ours
    )
    op.execute(f"REVOKE ALL ON FUNCTION {DROP} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {DROP} TO federation_app, federation_service")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION {DROP}")
    op.drop_table("cached_answers")
    op.drop_column("model_runs", "cached")
