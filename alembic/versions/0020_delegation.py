"""Parts of tasks, time-outs, escalation, persons and capabilities; roles in conversations, and their phases; which status may follow on which."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0020"
down_revision: str | None = "0019"
branch_labels: str | None = None
depends_on: str | None = None

ME = "(SELECT nullif(current_setting('federation.actor', true), ''))"
MEMBERS = "conversation_id IN (SELECT federation_conversations())"
NOW = sa.text("clock_timestamp()")
# As in 0013: what `app` may do, and with which rows. What was designated, and where a conversation was moved, stays.
APP = {table: {"SELECT": MEMBERS, "INSERT": f"{MEMBERS} AND created_by = {ME}"} for table in ("role_assignments", "conversation_phases")}
BEFORE = ("awaiting_approval", "pending", "assigned", "running", "completed", "failed", "cancelled")
EXECUTORS = ("agent", "node")
PHASES = ("propose", "discuss", "decide", "execute", "review")
BROKEN_OFF = ("failed", "cancelled", "expired")
# As in federation/store/models/tasks.py.
MOVES = {
    "awaiting_approval": ("pending", "assigned", "cancelled"),
    "pending": (*BROKEN_OFF, "assigned", "running"),
    "assigned": (*BROKEN_OFF, "running"),
    "running": (*BROKEN_OFF, "completed", "pending", "assigned"),
    "failed": ("pending",),
}


def upgrade() -> None:
    _one_of("status", (*BEFORE, "expired"))
    _one_of("executor", (*EXECUTORS, "person"))
    _widen_tasks()
    _make_assignments()
    _make_phases()
    for table, verbs in APP.items():
        _secure(table, verbs)
    _hold_moves()


def _one_of(column: str, values: tuple[str, ...]) -> None:
    op.drop_constraint(op.f(f"ck_agent_tasks_{column}"), "agent_tasks")
    op.create_check_constraint(op.f(f"ck_agent_tasks_{column}"), "agent_tasks", f"{column} IN ({', '.join(map(repr, values))})")


def _open(*ends: str) -> sa.TextClause:
    return sa.text(f"status NOT IN ({', '.join(map(repr, ends))})")


def _widen_tasks() -> None:
    moment = postgresql.TIMESTAMP(timezone=True)
    for column in (
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("capability", sa.Text(), nullable=True),
        sa.Column("look_up", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("handed_to", sa.Text(), nullable=True),
        sa.Column("timeout_s", sa.Double(), nullable=True),
        sa.Column("expires_at", moment, nullable=True),
        sa.Column("waiting_since", moment, nullable=True),
        sa.Column("escalated_at", moment, nullable=True),
    ):
        op.add_column("agent_tasks", column)
    op.create_check_constraint(op.f("ck_agent_tasks_timeout_s"), "agent_tasks", "timeout_s > 0")
    op.create_unique_constraint(op.f("uq_agent_tasks_conversation_id_id"), "agent_tasks", ["conversation_id", "id"])
    op.create_foreign_key(
        op.f("fk_agent_tasks_conversation_id_parent_id_agent_tasks"),
        "agent_tasks",
        "agent_tasks",
        ["conversation_id", "parent_id"],
        ["conversation_id", "id"],
    )
    op.create_index(op.f("ix_agent_tasks_parent_id"), "agent_tasks", ["parent_id"])
    ends = ("completed", "failed", "cancelled", "expired")
    op.drop_index("ix_agent_tasks_open", table_name="agent_tasks")
    op.create_index("ix_agent_tasks_open", "agent_tasks", ["created_by"], postgresql_where=_open(*ends))
    op.create_index("ix_agent_tasks_expiring", "agent_tasks", ["expires_at"], postgresql_where=_open(*ends))
    untaken = sa.text(f"escalated_at IS NULL AND {_open(*ends).text}")
    op.create_index("ix_agent_tasks_untaken", "agent_tasks", ["waiting_since"], postgresql_where=untaken)
    # What was open before waits from now on, so that no old task is told of at once.
    op.execute("UPDATE agent_tasks SET waiting_since = clock_timestamp() WHERE status IN ('pending', 'assigned', 'running')")


def _make_assignments() -> None:
    op.create_table(
        "role_assignments",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_role_assignments_conversation_id_conversations")),
        sa.ForeignKeyConstraint(["agent"], ["agents.name"], name=op.f("fk_role_assignments_agent_agents")),
        sa.ForeignKeyConstraint(["task_id"], ["agent_tasks.id"], name=op.f("fk_role_assignments_task_id_agent_tasks")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_assignments")),
    )
    op.create_index("ix_role_assignments_conversation_id_agent", "role_assignments", ["conversation_id", "agent"])
    op.create_index(op.f("ix_role_assignments_task_id"), "role_assignments", ["task_id"])


def _make_phases() -> None:
    op.create_table(
        "conversation_phases",
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=NOW, nullable=False),
        sa.CheckConstraint(f"phase IN ({', '.join(map(repr, PHASES))})", name=op.f("ck_conversation_phases_phase")),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_conversation_phases_conversation_id_conversations")),
        sa.PrimaryKeyConstraint("conversation_id", "number", name=op.f("pk_conversation_phases")),
    )


def _secure(table: str, verbs: dict[str, str]) -> None:
    op.execute(f"GRANT {', '.join(verbs)} ON {table} TO federation_app, federation_service")
    op.execute(f"GRANT SELECT ON {table} TO federation_auditor")
    for verb, rows in verbs.items():
        checked = f"WITH CHECK ({rows})" if verb == "INSERT" else f"USING ({rows})"
        op.execute(f"CREATE POLICY app_{verb.lower()} ON {table} FOR {verb} TO federation_app {checked}")
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


def _hold_moves() -> None:
    """Let no statement of anybody move a task to a status that cannot follow on its own."""
    pairs = ", ".join(f"('{former}', '{status}')" for former, follows in MOVES.items() for status in follows)
    op.execute(
        f"""
        CREATE FUNCTION federation_task_moves() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.status, NEW.status) NOT IN ({pairs}) THEN
                RAISE EXCEPTION 'a task that is % cannot become %', OLD.status, NEW.status USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER moves BEFORE UPDATE OF status ON agent_tasks FOR EACH ROW
        WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION federation_task_moves()
        """
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER moves ON agent_tasks")
    op.execute("DROP FUNCTION federation_task_moves()")
    op.drop_table("conversation_phases")
    op.drop_table("role_assignments")
    for index in ("ix_agent_tasks_untaken", "ix_agent_tasks_expiring", "ix_agent_tasks_open"):
        op.drop_index(index, table_name="agent_tasks")
    # To the older program it has ended too. A person is an agent of this role; what was handed on is his for whom it is.
    op.execute("UPDATE agent_tasks SET status = 'failed' WHERE status = 'expired'")
    op.execute("""UPDATE agent_tasks SET executor = 'agent', requirements = requirements || '{"role": "human"}' WHERE executor = 'person'""")
    op.execute("UPDATE agent_tasks SET reserved_for = handed_to WHERE handed_to IS NOT NULL")
    op.create_index("ix_agent_tasks_open", "agent_tasks", ["created_by"], postgresql_where=_open("completed", "failed", "cancelled"))
    op.drop_constraint(op.f("fk_agent_tasks_conversation_id_parent_id_agent_tasks"), "agent_tasks")
    op.drop_constraint(op.f("uq_agent_tasks_conversation_id_id"), "agent_tasks")
    for column in ("parent_id", "capability", "look_up", "handed_to", "timeout_s", "expires_at", "waiting_since", "escalated_at"):
        op.drop_column("agent_tasks", column)
    _one_of("executor", EXECUTORS)
    _one_of("status", BEFORE)
