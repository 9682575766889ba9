"""What a column may hold for which Python has no value, read as something near: only SQL beside the program writes it, and it hides no other row.

PostgreSQL knows moments without end and before the first year, numbers of any length, and lists within lists, thousands deep.
"""

import json
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

# A day from both ends of the calendar, so that another time zone lies within it too.
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_MOMENT = "timestamptz"


def loads(text: str | bytes) -> Any:
    """Return what JSON says; for what cannot be read an object that says why, which no reader takes for one of its own."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return {"unreadable": str(error)}


def adapt(connection: psycopg.Connection) -> None:
    """Have a connection read moments so."""
    connection.adapters.register_loader(_MOMENT, _Moment)


class _Moment(Loader):
    """A moment that Python knows, or the one that is nearest to it."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        # Not `super`: psycopg has this one in C.
        exact = psycopg.adapters.get_loader(oid, Format.TEXT)
        assert exact is not None
        self._exact = exact(oid, context)

    def load(self, data: Buffer) -> Any:
        """Return it."""
        try:
            return self._exact.load(data)
        except psycopg.DataError:
            text = bytes(data)
            return EARLIEST if text.startswith(b"-") or text.endswith(b"BC") else LATEST
