"""The tables of the result backend, in a MetaData of its own; the backend itself never runs DDL."""

from typing import Any

from sqlalchemy import Boolean, Column, DateTime, Engine, Index, Integer, MetaData, String, Table, Text, create_engine, func, text

from federation.results.options import parse

LONGEST_ID = 255

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _written() -> Column[Any]:
    return Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def _expires() -> Column[Any]:
    return Column("expires_at", DateTime(timezone=True), comment="deleted by celery.backend_cleanup after this; null: kept for ever")


# JSON lies in text, because jsonb refuses what JSON of Python may hold: NaN, \u0000, lone surrogates.
celery_results = Table(
    "celery_results",
    metadata,
    Column("task_id", String(LONGEST_ID), primary_key=True),
    Column("state", String(50), nullable=False),
    Column("result", Text, comment="JSON: the value, the exception or the progress"),
    Column("traceback", Text),
    Column("children", Text, comment="JSON: the ids of the executions that this one sent"),
    Column("details", Text, comment="JSON: name, args, kwargs, worker, retries, queue with result_extended; parent_id"),
    Column("group_id", String(255)),
    Column("group_index", Integer),
    Column("joined", Boolean, nullable=False, server_default=text("false"), comment="counted as a part of its chord"),
    Column("date_done", DateTime(timezone=True)),
    _written(),
    _expires(),
    Index("ix_celery_results_group_id", "group_id", postgresql_where=text("joined")),
    Index("ix_celery_results_expires_at", "expires_at"),
)

celery_group_results = Table(
    "celery_group_results",
    metadata,
    Column("group_id", String(255), primary_key=True),
    Column("result", Text, nullable=False, comment="JSON: the tree of ids"),
    _written(),
    _expires(),
    Index("ix_celery_group_results_expires_at", "expires_at"),
)

celery_chords = Table(
    "celery_chords",
    metadata,
    Column("group_id", String(255), primary_key=True),
    Column("size", Integer, comment="parts of the header; Celery tells it just before it sends the last one"),
    Column("added", Integer, nullable=False, server_default=text("0"), comment="parts added by add_to_chord"),
    Column("counted", Integer, nullable=False, server_default=text("0"), comment="parts that have ended"),
    Column("dispatcher", String(255), comment="the part that completed the header; its executions send the body"),
    _written(),
    _expires(),
    Index("ix_celery_chords_expires_at", "expires_at"),
)


def create_all(database: str | Engine, *, schema: str | None = None) -> None:
    """Create the tables that are missing, for users without migrations; `database` is an engine or the backend's URL."""
    if isinstance(database, Engine):
        engine = database
    else:
        options = parse(database)
        schema = schema or options.schema
        engine = create_engine(options.conninfo.replace("postgresql://", "postgresql+psycopg://", 1))
    target = metadata
    if schema is not None:
        target = MetaData(naming_convention=metadata.naming_convention)
        for table in metadata.sorted_tables:
            table.to_metadata(target, schema=schema)
    try:
        target.create_all(engine)
    finally:
        if engine is not database:
            engine.dispose()
