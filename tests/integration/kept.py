"""Connections and engines that one test after another uses: a new one costs PostgreSQL and us some hundredths of a second of processor."""

from functools import cache
from typing import Any

import psycopg
from sqlalchemy import Engine

from federation.transaction import connect

# How PostgreSQL knows them.
NAME = "kept"

_connections: dict[str, psycopg.Connection[Any]] = {}


@cache
def engine(url: str) -> Engine:
    """Return the engine of this URL, which knows how to write each statement that it has run before."""
    return connect(f"{url}{'&' if '?' in url else '?'}application_name={NAME}")


def connection(url: str) -> "psycopg.Connection[Any]":
    """Return a connection that works, on which each statement is a transaction; PostgreSQL may have been away."""
    kept = _connections.get(url)
    if kept is None or not _works(kept):
        kept = _connections[url] = psycopg.connect(url, autocommit=True, application_name=NAME)
    return kept


def _works(kept: "psycopg.Connection[Any]") -> bool:
    try:
        kept.execute("")
    except psycopg.OperationalError:
        kept.close()
        return False
    return True


def close() -> None:
    """Close all connections."""
    while _connections:
        _connections.popitem()[1].close()
