"""One order of all events, how far the topics have been told of them, and the seals over them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

CURRENT_ACTOR = "nullif(current_setting('federation.actor', true), '')"
APPEND_ONLY = ("event_order", "seals")


def upgrade() -> None:
    # Rows that are there are counted in the order in which they lie in the table, which nothing has ever changed.
    op.add_column("events", sa.Column("sequence", sa.BigInteger(), sa.Identity(always=True), nullable=False))
    op.create_unique_constraint(op.f("uq_events_sequence"), "events", ["sequence"])
    op.create_table(
        "event_order",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_event_order")),
        sa.UniqueConstraint("sequence", name=op.f("uq_event_order_sequence")),
    )
    op.create_table(
        "event_relay",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("published", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("settled", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_relay")),
        sa.CheckConstraint("id = 1", name=op.f("ck_event_relay_one_row")),
    )
    op.execute("INSERT INTO event_relay (id) VALUES (1)")
    op.create_table(
        "seals",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("leaves", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("actor", sa.Text(), server_default=sa.text(CURRENT_ACTOR), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_seals")),
        sa.UniqueConstraint("first", name=op.f("uq_seals_first")),
        sa.CheckConstraint("first <= last", name=op.f("ck_seals_range")),
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute("GRANT SELECT, INSERT ON event_order, seals TO federation_service")
    op.execute("GRANT SELECT, UPDATE ON event_relay TO federation_service")
    # The relay asks how far the sequence has come.
    op.execute("GRANT SELECT ON SEQUENCE events_sequence_seq TO federation_service")
    op.execute("GRANT SELECT ON event_order, event_relay, seals TO federation_app, federation_auditor")


def downgrade() -> None:
    # Who comes up again begins with a new order: move the file of seals away before, or it tells of a log that was cut.
    op.drop_table("seals")
    op.drop_table("event_relay")
    op.drop_table("event_order")
    op.drop_constraint(op.f("uq_events_sequence"), "events")
    op.drop_column("events", "sequence")
