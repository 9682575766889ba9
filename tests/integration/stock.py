"""Migrated databases that one test after another gets, emptied in between: a clone for each costs half a second of processor.

Hands out none whose schema, rights or triggers a test has changed.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.integration import kept

# All that a test may change and rows do not show.
_SHAPE = """
SELECT md5(string_agg(told, ',' ORDER BY told)) FROM (
    SELECT row(relname, relkind, relacl, relowner, relrowsecurity, relforcerowsecurity)::text FROM pg_class WHERE relnamespace = ANY(%(ours)s)
    UNION ALL SELECT row(attrelid::regclass, attname, atttypid, attnotnull, attacl)::text FROM pg_attribute
        WHERE attrelid IN (SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = ANY(%(ours)s))
    UNION ALL SELECT row(tgrelid::regclass, tgname, tgenabled)::text FROM pg_trigger
        WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = ANY(%(ours)s))
    UNION ALL SELECT row(conrelid::regclass, conname, convalidated)::text FROM pg_constraint WHERE connamespace = ANY(%(ours)s)
    UNION ALL SELECT row(oid, proacl, prosrc)::text FROM pg_proc WHERE pronamespace = ANY(%(ours)s)
    UNION ALL SELECT row(polrelid::regclass, polname, polroles)::text FROM pg_policy
    UNION ALL SELECT row(setrole, setconfig)::text FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS shape (told)
"""
_OURS = "SELECT array_agg(oid) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
_TABLES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = ANY(%(ours)s) ORDER BY 1"
_SEQUENCES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S' AND relnamespace = ANY(%(ours)s)"
# Those that are kept do nothing by themselves, unless a test has left one in the midst of something.
_OTHERS = f"""
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (application_name <> '{kept.NAME}' OR state <> 'idle')
"""


@dataclass(frozen=True)
class Lent:
    """A database, how it was when it was cloned, and the rows that it had then."""

    url: str
    shape: str
    rows: dict[str, bytes]
    sequences: dict[str, tuple[int, bool]]


class Stock:
    """Lends databases that look as if they had just been cloned from the template."""

    def __init__(self, postgres: Any, template: str) -> None:
        self._postgres, self._template = postgres, template
        self._idle: list[Lent] = []
        self._clones = ExitStack()

    def close(self) -> None:
        """Drop all of them."""
        self._clones.close()

    @contextmanager
    def lend(self) -> Iterator[str]:
        """Yield the superuser's URL of a database that nobody else has."""
        lent = self._emptied() or self._clone()
        yield lent.url
        self._postgres.start()  # a test may have left it killed
        self._idle.append(lent)

    def _emptied(self) -> Lent | None:
        while self._idle:
            lent = self._idle.pop()
            connection = kept.connection(lent.url)
            with connection.transaction():
                connection.execute(_OTHERS)
                ours = _ours(connection)
                if _one(connection, _SHAPE, ours) == lent.shape:
                    _empty(connection, lent, ours)
                    return lent
        return None

    def _clone(self) -> Lent:
        url = self._clones.enter_context(self._postgres.database(owner="federation_owner", template=self._template))
        with psycopg.connect(url) as connection:
            ours = _ours(connection)
            names = connection.execute(_TABLES, ours).fetchall()
            rows = {name: _copied(connection, name) for (name,) in names}
            names = connection.execute(_SEQUENCES, ours).fetchall()
            sequences = {name: connection.execute(f"SELECT last_value, is_called FROM {name}").fetchone() for (name,) in names}
            return Lent(url, _one(connection, _SHAPE, ours), {name: copy for name, copy in rows.items() if copy}, sequences)


def _ours(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    return {"ours": _one(connection, _OURS, {})}


def _one(connection: psycopg.Connection[Any], query: str, values: dict[str, Any]) -> Any:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row[0]


def _copied(connection: psycopg.Connection[Any], table: str) -> bytes:
    with connection.cursor().copy(f"COPY {table} TO STDOUT") as copy:
        return b"".join(copy)


def _empty(connection: psycopg.Connection[Any], lent: Lent, ours: dict[str, Any]) -> None:
    # Neither foreign keys nor the triggers of append-only tables are in the way of a replica.
    connection.execute("SET LOCAL session_replication_role = replica")
    tables = [name for (name,) in connection.execute(_TABLES, ours)]
    connection.execute(";".join(f"DELETE FROM {name}" for name in tables))
    for table, rows in lent.rows.items():
        with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
            copy.write(rows)
    for name, (value, called) in lent.sequences.items():
        connection.execute("SELECT setval(%s, %s, %s)", (name, value, called))
