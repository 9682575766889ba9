"""The tables of the spine, and those of the result backend."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "agent_sessions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("context", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.String(length=50), server_default="active", nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("status IN ('active', 'completed')", name=op.f("ck_agent_sessions_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_sessions")),
    )
    op.create_table(
        "agents",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("role IN ('lead', 'developer', 'analyst', 'human', 'observer', 'service')", name=op.f("ck_agents_role")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_agents")),
    )
    op.create_table(
        "claims",
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fencing_token", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("acquired_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("released_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("resource", name=op.f("pk_claims")),
    )
    op.create_table(
        "conversations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
    )
    op.create_table(
        "cop_states",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("thinking", sa.Text(), nullable=True),
        sa.Column("wondering", sa.Text(), nullable=True),
        sa.Column("offering", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("action IN ('EXECUTING', 'IDLE', 'WAITING')", name=op.f("ck_cop_states_action")),
        sa.CheckConstraint("kind IN ('agent', 'node')", name=op.f("ck_cop_states_kind")),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_cop_states")),
    )
    op.create_table(
        "documents",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        sa.UniqueConstraint("root", "path", name=op.f("uq_documents_root_path")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("stream", "position", name=op.f("uq_events_stream_position")),
    )
    op.create_index("ix_events_trace_id", "events", ["trace_id"], unique=False)
    op.create_table(
        "execution_deliveries",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("task_name", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("redelivered", sa.Boolean(), nullable=False),
        sa.Column("delivered_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "number", name=op.f("pk_execution_deliveries")),
    )
    op.create_table(
        "execution_effects",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "key", name=op.f("pk_execution_effects")),
    )
    op.create_table(
        "index_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("changed_files", sa.Integer(), nullable=False),
        sa.Column("deleted_files", sa.Integer(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("batches", sa.Integer(), nullable=False),
        sa.Column("skipped", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_index_runs")),
    )
    op.create_table(
        "model_runs",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_digest", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("prompt_sha256", sa.Text(), nullable=False),
        sa.Column("completion", sa.Text(), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_model_runs")),
    )
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("engines", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("models", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("gpus", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("missing", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("incarnation", sa.Uuid(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("announced_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("last_seen_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("left_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("load", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_nodes")),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("execution_id", sa.Uuid(), nullable=True),
        sa.Column("task_name", sa.Text(), nullable=True),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
    )
    op.create_index(op.f("ix_quarantine_execution_id"), "quarantine", ["execution_id"], unique=False)
    op.create_table(
        "streams",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_streams")),
    )
    op.create_table(
        "agent_tasks",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("task_type", sa.String(length=50), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("executor", sa.Text(), nullable=False),
        sa.Column("requirements", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("assigned_to", sa.String(length=100), nullable=True),
        sa.Column("reserved_for", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=50), server_default="pending", nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("completed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("executor IN ('agent', 'node')", name=op.f("ck_agent_tasks_executor")),
        sa.CheckConstraint("status IN ('pending', 'assigned', 'running', 'completed', 'failed', 'cancelled')", name=op.f("ck_agent_tasks_status")),
        sa.CheckConstraint("task_type IN ('investigate', 'analyze', 'remediate', 'report')", name=op.f("ck_agent_tasks_task_type")),
        sa.CheckConstraint("priority BETWEEN 1 AND 10", name=op.f("ck_agent_tasks_priority")),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_agent_tasks_conversation_id_conversations")),
        sa.ForeignKeyConstraint(["session_id"], ["agent_sessions.id"], name=op.f("fk_agent_tasks_session_id_agent_sessions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_tasks")),
        sa.UniqueConstraint("conversation_id", "slug", name=op.f("uq_agent_tasks_conversation_id_slug")),
    )
    op.create_index(op.f("ix_agent_tasks_slug"), "agent_tasks", ["slug"], unique=False)
    op.create_table(
        "agent_tokens",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_agent_tokens_agent_agents"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_tokens")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_agent_tokens_token_sha256")),
    )
    op.create_index(op.f("ix_agent_tokens_agent"), "agent_tokens", ["agent"], unique=False)
    op.create_table(
        "chunks",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("start_line", sa.Integer(), nullable=False),
        sa.Column("end_line", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("vector_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["document_id"], ["documents.id"], name=op.f("fk_chunks_document_id_documents"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunks")),
    )
    op.create_index(op.f("ix_chunks_document_id"), "chunks", ["document_id"], unique=False)
    op.create_index("ix_chunks_pending", "chunks", ["document_id"], unique=False, postgresql_where="vector_at IS NULL")
    op.create_table(
        "conversation_members",
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("joined_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_conversation_members_agent_agents"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name=op.f("fk_conversation_members_conversation_id_conversations"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("conversation_id", "agent", name=op.f("pk_conversation_members")),
    )
    op.create_index(op.f("ix_conversation_members_agent"), "conversation_members", ["agent"], unique=False)
    op.create_table(
        "index_batches",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("chunk_ids", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["index_runs.id"], name=op.f("fk_index_batches_run_id_index_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_index_batches")),
    )
    op.create_index(op.f("ix_index_batches_run_id"), "index_batches", ["run_id"], unique=False)
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=True),
        sa.Column("message_type", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("correlation_id", sa.Uuid(), nullable=False),
        sa.Column("reply_to", sa.Uuid(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("message_type IN ('chat', 'task', 'result', 'status')", name=op.f("ck_messages_message_type")),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_messages_conversation_id_conversations")),
        sa.ForeignKeyConstraint(["recipient"], ["agents.name"], name=op.f("fk_messages_recipient_agents")),
        sa.ForeignKeyConstraint(["reply_to"], ["messages.id"], name=op.f("fk_messages_reply_to_messages")),
        sa.ForeignKeyConstraint(["sender"], ["agents.name"], name=op.f("fk_messages_sender_agents")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.UniqueConstraint("conversation_id", "position", name=op.f("uq_messages_conversation_id_position")),
    )
    op.create_index(op.f("ix_messages_correlation_id"), "messages", ["correlation_id"], unique=False)
    op.create_table(
        "summaries",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("from_position", sa.BigInteger(), nullable=False),
        sa.Column("to_position", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_digest", sa.Text(), nullable=False),
        sa.Column("message_ids", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_summaries_conversation_id_conversations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_summaries")),
        sa.UniqueConstraint("conversation_id", "from_position", name=op.f("uq_summaries_conversation_id_from_position")),
    )
    op.create_table(
        "vector_changes",
        sa.Column("chunk_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["index_runs.id"], name=op.f("fk_vector_changes_run_id_index_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chunk_id", name=op.f("pk_vector_changes")),
    )
    op.create_index(op.f("ix_vector_changes_run_id"), "vector_changes", ["run_id"], unique=False)
    op.create_table(
        "executions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task_name", sa.Text(), nullable=False),
        sa.Column("kwargs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("requirements", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("agent_task_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("sent_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("cancelled_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["agent_task_id"], ["agent_tasks.id"], name=op.f("fk_executions_agent_task_id_agent_tasks")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
    )
    op.create_index(op.f("ix_executions_agent_task_id"), "executions", ["agent_task_id"], unique=False)
    op.create_index("ix_executions_node_sent_at", "executions", ["node", "sent_at"], unique=False)
    op.create_index("ix_executions_actor_created_at", "executions", ["actor", "created_at"], unique=False)
    op.create_table(
        "message_receipts",
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("read_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_message_receipts_agent_agents"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_message_receipts_message_id_messages"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("agent", "position", name=op.f("pk_message_receipts")),
    )
    op.create_index(op.f("ix_message_receipts_message_id"), "message_receipts", ["message_id"], unique=False)
    op.create_index("ix_message_receipts_unread", "message_receipts", ["agent", "position"], unique=False, postgresql_where="read_at IS NULL")
    op.create_table(
        "outbox",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tried_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_outbox_execution_id_executions"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "celery_chords",
        sa.Column("group_id", sa.String(length=255), nullable=False),
        sa.Column("size", sa.Integer(), nullable=True, comment="parts of the header; Celery tells it just before it sends the last one"),
        sa.Column("added", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="parts added by add_to_chord"),
        sa.Column("counted", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="parts that have ended"),
        sa.Column("dispatcher", sa.String(length=255), nullable=True, comment="the part that completed the header; its executions send the body"),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "expires_at", sa.DateTime(timezone=True), nullable=True, comment="deleted by celery.backend_cleanup after this; null: kept for ever"
        ),
        sa.PrimaryKeyConstraint("group_id", name=op.f("pk_celery_chords")),
    )
    op.create_index("ix_celery_chords_expires_at", "celery_chords", ["expires_at"], unique=False)
    op.create_table(
        "celery_group_results",
        sa.Column("group_id", sa.String(length=255), nullable=False),
        sa.Column("result", sa.Text(), nullable=False, comment="JSON: the tree of ids"),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "expires_at", sa.DateTime(timezone=True), nullable=True, comment="deleted by celery.backend_cleanup after this; null: kept for ever"
        ),
        sa.PrimaryKeyConstraint("group_id", name=op.f("pk_celery_group_results")),
    )
    op.create_index("ix_celery_group_results_expires_at", "celery_group_results", ["expires_at"], unique=False)
    op.create_table(
        "celery_results",
        sa.Column("task_id", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=50), nullable=False),
        sa.Column("result", sa.Text(), nullable=True, comment="JSON: the value, the exception or the progress"),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("children", sa.Text(), nullable=True, comment="JSON: the ids of the executions that this one sent"),
        sa.Column("details", sa.Text(), nullable=True, comment="JSON: name, args, kwargs, worker, retries, queue with result_extended; parent_id"),
        sa.Column("group_id", sa.String(length=255), nullable=True),
        sa.Column("group_index", sa.Integer(), nullable=True),
        sa.Column("joined", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="counted as a part of its chord"),
        sa.Column("date_done", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "expires_at", sa.DateTime(timezone=True), nullable=True, comment="deleted by celery.backend_cleanup after this; null: kept for ever"
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_celery_results")),
    )
    op.create_index("ix_celery_results_expires_at", "celery_results", ["expires_at"], unique=False)
    op.create_index("ix_celery_results_group_id", "celery_results", ["group_id"], unique=False, postgresql_where=sa.text("joined"))


def downgrade() -> None:
    op.drop_index("ix_celery_results_group_id", table_name="celery_results", postgresql_where=sa.text("joined"))
    op.drop_index("ix_celery_results_expires_at", table_name="celery_results")
    op.drop_table("celery_results")
    op.drop_index("ix_celery_group_results_expires_at", table_name="celery_group_results")
    op.drop_table("celery_group_results")
    op.drop_index("ix_celery_chords_expires_at", table_name="celery_chords")
    op.drop_table("celery_chords")
    op.drop_table("outbox")
    op.drop_index("ix_message_receipts_unread", table_name="message_receipts", postgresql_where="read_at IS NULL")
    op.drop_index(op.f("ix_message_receipts_message_id"), table_name="message_receipts")
    op.drop_table("message_receipts")
    op.drop_index("ix_executions_actor_created_at", table_name="executions")
    op.drop_index("ix_executions_node_sent_at", table_name="executions")
    op.drop_index(op.f("ix_executions_agent_task_id"), table_name="executions")
    op.drop_table("executions")
    op.drop_index(op.f("ix_vector_changes_run_id"), table_name="vector_changes")
    op.drop_table("vector_changes")
    op.drop_table("summaries")
    op.drop_index(op.f("ix_messages_correlation_id"), table_name="messages")
    op.drop_table("messages")
    op.drop_index(op.f("ix_index_batches_run_id"), table_name="index_batches")
    op.drop_table("index_batches")
    op.drop_index(op.f("ix_conversation_members_agent"), table_name="conversation_members")
    op.drop_table("conversation_members")
    op.drop_index("ix_chunks_pending", table_name="chunks", postgresql_where="vector_at IS NULL")
    op.drop_index(op.f("ix_chunks_document_id"), table_name="chunks")
    op.drop_table("chunks")
    op.drop_index(op.f("ix_agent_tokens_agent"), table_name="agent_tokens")
    op.drop_table("agent_tokens")
    op.drop_index(op.f("ix_agent_tasks_slug"), table_name="agent_tasks")
    op.drop_table("agent_tasks")
    op.drop_table("streams")
    op.drop_index(op.f("ix_quarantine_execution_id"), table_name="quarantine")
    op.drop_table("quarantine")
    op.drop_table("nodes")
    op.drop_table("model_runs")
    op.drop_table("index_runs")
    op.drop_table("execution_effects")
    op.drop_table("execution_deliveries")
    op.drop_index("ix_events_trace_id", table_name="events")
    op.drop_table("events")
    op.drop_table("documents")
    op.drop_table("cop_states")
    op.drop_table("conversations")
    op.drop_table("claims")
    op.drop_table("agents")
    op.drop_table("agent_sessions")
