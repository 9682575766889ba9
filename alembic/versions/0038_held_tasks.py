"""What comes of a task is written by the agent who holds it, and who decides on one or ends it says that it was he."""

import sqlalchemy as sa
from alembic import op

revision: str = "0038"
down_revision: str | None = "0037"
branch_labels: str | None = None
depends_on: str | None = None

# Of who acts for agents; a superuser is a member of all roles, and the tables' owner of none.
BY_AGENTS = "pg_has_role('federation_app', 'USAGE') AND NOT pg_has_role('federation_service', 'USAGE')"
WATCHED = ("status", "assigned_to", "result", "decided_by")


def upgrade() -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    # Who may cancel or approve is the charter's to say, a file that the database does not know. Who holds a task it knows: a claim that nobody gave
    # back and nobody took over. Whether it has lapsed the services ask, at the moment at which they decide.
    op.execute(
        f"""
        CREATE FUNCTION federation_task_held() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
        DECLARE
            me text := nullif(current_setting('federation.actor', true), '');
            holder text;
            until timestamptz;
            wrong text;
        BEGIN
            SELECT c.holder, c.expires_at INTO holder, until FROM claims c WHERE c.resource = 'task:' || NEW.id AND c.released_at IS NULL;
            IF NEW.status IN ('running', 'completed', 'failed') THEN
                -- A node does its work in the name of who asked for it.
                IF (CASE NEW.executor WHEN 'node' THEN NEW.created_by ELSE holder END) IS DISTINCT FROM me
                    OR NEW.executor <> 'node' AND NEW.assigned_to IS DISTINCT FROM me
                THEN
                    wrong := 'is not held by ' || coalesce(me, 'nobody');
                END IF;
            ELSIF NEW.status = 'expired' OR OLD.status = 'failed' AND NEW.status <> 'failed' THEN
                wrong := 'ends by its time, and begins anew, without agents';
            ELSIF OLD.status = 'running' AND NEW.status IN ('pending', 'assigned') AND holder <> me AND until > clock_timestamp() THEN
                wrong := 'is held by ' || holder;
            ELSIF NEW.status = 'cancelled' AND me IS DISTINCT FROM coalesce(NEW.result->>'cancelled_by', NEW.result->>'rejected_by') THEN
                wrong := 'is ended by who says that he does';
            END IF;
            IF NEW.result IS DISTINCT FROM OLD.result AND NEW.status IS NOT DISTINCT FROM OLD.status THEN
                wrong := 'has a result when it ends, and keeps it';
            ELSIF OLD.status = 'awaiting_approval' AND NEW.status <> 'cancelled' AND NEW.decided_by IS DISTINCT FROM me
                OR NEW.decided_by IS DISTINCT FROM OLD.decided_by AND (OLD.status <> 'awaiting_approval' OR NEW.decided_by IS DISTINCT FROM me)
            THEN
                wrong := 'is decided on once, by who says that he does';
            END IF;
            IF wrong IS NOT NULL THEN
                RAISE EXCEPTION 'task % %', NEW.id, wrong USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN NEW;
        END $$
        """  # noqa: S608 - it is ours
    )
    before, after = (", ".join(f"{row}.{column}" for column in WATCHED) for row in ("OLD", "NEW"))
    op.execute(
        f"""
        CREATE TRIGGER held BEFORE UPDATE OF {", ".join(WATCHED)} ON agent_tasks FOR EACH ROW
        WHEN (({before}) IS DISTINCT FROM ({after}) AND {BY_AGENTS}) EXECUTE FUNCTION federation_task_held()
        """
    )
    op.execute("REVOKE ALL ON FUNCTION federation_task_held() FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP TRIGGER held ON agent_tasks")
    op.execute("DROP FUNCTION federation_task_held()")
