"""Who may see what is indexed: a folder is indexed for an audience, and an agent sees the indexes that are for it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0021"
down_revision: str | None = "0020"
branch_labels: str | None = None
depends_on: str | None = None

LEVELS = ("all", "members", "role", "nobody")
# In sub-selects, so that each is worked out once for a statement and not for each row.
ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MINE = "(SELECT federation_conversations())"
MY_ROLE = f"(SELECT role FROM agents WHERE name = {ME})"  # noqa: S608 - it is ours
ANYBODY = f"{ME} IS NOT NULL"
FOR_ME = f"visibility = 'all' OR visibility = 'members' AND audience IN {MINE} OR visibility = 'role' AND audience = {MY_ROLE}"
# There are few folders, so a list of those that one sees is made once for a statement.
SEEN_FOLDER = "folder_id IN (SELECT id FROM indexed_folders)"
SEEN_DOCUMENT = "EXISTS (SELECT FROM documents d WHERE d.id = document_id OFFSET 0)"
SEEN_RUN = "EXISTS (SELECT FROM index_runs r WHERE r.id = run_id OFFSET 0)"
MY_RUN = f"EXISTS (SELECT FROM index_runs r WHERE r.id = run_id AND r.created_by = {ME} OFFSET 0)"
# As in 0013: what `app` may do, and with which rows.
FOLDERS = {
    "SELECT": f"created_by = {ME} OR {ANYBODY} AND ({FOR_ME})",
    # For others as one of them, for nobody in one's own name.
    "INSERT": f"created_by = {ME} AND ({FOR_ME} OR visibility = 'nobody' AND audience = {ME})",
    "DELETE": f"created_by = {ME}",
}
APP = {
    "index_runs": {
        "SELECT": f"created_by = {ME} OR {SEEN_FOLDER}",
        "INSERT": f"created_by = {ME} AND {SEEN_FOLDER}",
        "UPDATE": f"created_by = {ME}",
    },
    "index_batches": {"SELECT": SEEN_RUN, "INSERT": MY_RUN, "UPDATE": MY_RUN},
    "documents": {
        **dict.fromkeys(("SELECT", "UPDATE", "DELETE"), SEEN_FOLDER),
        "INSERT": f"created_by = {ME} AND {SEEN_FOLDER}",
    },
    "chunks": dict.fromkeys(("SELECT", "INSERT", "UPDATE", "DELETE"), SEEN_DOCUMENT),
    # What a run has left the next one takes up, whosever it was.
    "vector_changes": {"SELECT": SEEN_RUN, "INSERT": MY_RUN, "UPDATE": SEEN_RUN, "DELETE": MY_RUN},
}


def upgrade() -> None:
    op.create_table(
        "indexed_folders",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint(f"visibility IN ({', '.join(map(repr, LEVELS))})", name=op.f("ck_indexed_folders_visibility")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_indexed_folders")),
        sa.UniqueConstraint("root", "visibility", "audience", name=op.f("uq_indexed_folders_root_visibility_audience")),
    )
    # What was indexed before is everybody's, as it was; it was made by who indexed it first.
    op.execute(
        """
        INSERT INTO indexed_folders (root, visibility, audience, created_by, created_at)
        SELECT DISTINCT ON (root) root, 'all', '', created_by, created_at
        FROM (SELECT root, created_by, created_at FROM index_runs UNION ALL SELECT root, created_by, created_at FROM documents) AS indexed
        WHERE root <> '' ORDER BY root, created_at
        """
    )
    for table in ("index_runs", "documents"):
        op.add_column(table, sa.Column("folder_id", sa.Uuid(), nullable=True))
        op.execute(f"UPDATE {table} SET folder_id = f.id FROM indexed_folders f WHERE f.root = {table}.root")  # noqa: S608 - it is ours
    # A run that lost its folder's name on the way down stays one of an index that is gone.
    op.execute("UPDATE index_runs SET folder_id = gen_random_uuid() WHERE folder_id IS NULL")
    for table in ("index_runs", "documents"):
        op.alter_column(table, "folder_id", nullable=False)
    op.create_index(op.f("ix_index_runs_folder_id"), "index_runs", ["folder_id"])
    op.drop_column("documents", "root")
    op.create_unique_constraint(op.f("uq_documents_folder_id_path"), "documents", ["folder_id", "path"])
    op.create_foreign_key(op.f("fk_documents_folder_id_indexed_folders"), "documents", "indexed_folders", ["folder_id"], ["id"])
    _secure("indexed_folders", FOLDERS)
    for table, verbs in APP.items():
        _allow(table, verbs)


def _allow(table: str, verbs: dict[str, str]) -> None:
    """Let `app` meet these rows and no others of a table that has policies already."""
    for verb, rows in verbs.items():
        checked = f"WITH CHECK ({rows})" if verb == "INSERT" else f"USING ({rows})"
        op.execute(f"DROP POLICY IF EXISTS app_{verb.lower()} ON {table}")
        op.execute(f"CREATE POLICY app_{verb.lower()} ON {table} FOR {verb} TO federation_app {checked}")


def _secure(table: str, verbs: dict[str, str]) -> None:
    op.execute(f"GRANT {', '.join(verbs)} ON {table} TO federation_app, federation_service")
    op.execute(f"GRANT SELECT ON {table} TO federation_auditor")
    _allow(table, verbs)
    op.execute(f"CREATE POLICY service ON {table} TO federation_service USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY auditor ON {table} FOR SELECT TO federation_auditor USING (true)")
    op.execute(
        f"""
        DO $$ BEGIN
            EXECUTE format('CREATE POLICY owner ON {table} TO %I USING (true) WITH CHECK (true)',
                (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = '{table}'::regclass));
        END $$
        """  # noqa: S608 - it is ours
    )
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def downgrade() -> None:
    for table, verbs in APP.items():
        _allow(table, dict.fromkeys(verbs, ANYBODY))
    _forget_what_is_not_for_all()
    op.add_column("documents", sa.Column("root", sa.Text(), nullable=True))
    op.execute("UPDATE documents SET root = f.root FROM indexed_folders f WHERE f.id = folder_id")
    op.alter_column("documents", "root", nullable=False)
    op.drop_column("documents", "folder_id")
    op.create_unique_constraint(op.f("uq_documents_root_path"), "documents", ["root", "path"])
    op.drop_column("index_runs", "folder_id")
    op.drop_table("indexed_folders")


def _forget_what_is_not_for_all() -> None:
    """The older program shows everything to everybody: so files go (their vectors stay, and are shown to nobody), and runs lose the folder's name."""
    for_some = "SELECT id FROM indexed_folders WHERE visibility <> 'all'"
    pieces = f"SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document_id WHERE d.folder_id IN ({for_some})"  # noqa: S608 - it is ours
    op.execute(f"DELETE FROM vector_changes WHERE chunk_id IN ({pieces})")  # noqa: S608 - it is ours
    op.execute(f"DELETE FROM documents WHERE folder_id IN ({for_some})")  # noqa: S608 - it is ours
    op.execute("UPDATE index_runs SET root = '' WHERE folder_id NOT IN (SELECT id FROM indexed_folders WHERE visibility = 'all')")
