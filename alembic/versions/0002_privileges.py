"""What each database role may do, and the trigger that keeps the event log append-only."""

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

ROLES = ("federation_app", "federation_service", "federation_auditor")
APPEND_ONLY = ("events", "messages", "summaries", "model_runs", "execution_deliveries", "execution_effects", "quarantine")
WRITTEN = (
    "agents",
    "agent_tokens",
    "agent_sessions",
    "agent_tasks",
    "claims",
    "conversations",
    "conversation_members",
    "message_receipts",
    "cop_states",
    "nodes",
    "streams",
    "executions",
    "index_runs",
    "index_batches",
)
DELETED_TOO = ("outbox", "documents", "chunks", "vector_changes", "celery_results", "celery_group_results", "celery_chords")


def upgrade() -> None:
    # Roles belong to the cluster: `federation up` and compose make them with passwords; on another server they are made here without.
    for role in ROLES:
        op.execute(f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} NOLOGIN; END IF; END $$")
    writers = "federation_app, federation_service"
    op.execute(f"GRANT SELECT, INSERT ON {', '.join(APPEND_ONLY)} TO {writers}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {', '.join(WRITTEN)} TO {writers}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(DELETED_TOO)} TO {writers}")
    op.execute(f"GRANT SELECT ON alembic_version TO {writers}")
    readable = [table for table in (*APPEND_ONLY, *WRITTEN, *DELETED_TOO) if table != "agent_tokens"]
    op.execute(f"GRANT SELECT ON {', '.join(readable)} TO federation_auditor")
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
        END $$
        """
    )
    op.execute("CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()")


def downgrade() -> None:
    op.execute("DROP TRIGGER events_append_only ON events")
    op.execute("DROP FUNCTION refuse_change()")
    tables = (*APPEND_ONLY, *WRITTEN, *DELETED_TOO, "alembic_version")
    op.execute(f"REVOKE ALL ON {', '.join(tables)} FROM {', '.join(ROLES)}")
