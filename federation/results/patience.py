"""How long a connection waits for PostgreSQL, where neither its URL nor the environment says."""

import os
from collections.abc import Container, Mapping
from typing import Any

from psycopg.conninfo import conninfo_to_dict

# A server that vanished without a word is noticed within half a minute.
_PATIENCE: Mapping[str, str] = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_ENVIRONMENT: Mapping[str, str] = {"connect_timeout": "PGCONNECT_TIMEOUT"}


def patience(given: Container[str]) -> dict[str, str]:
    """Return libpq's options (in seconds; tcp_user_timeout in ms) whose names are not among the given ones nor set in the environment."""
    return {name: value for name, value in _PATIENCE.items() if name not in given and not os.environ.get(_ENVIRONMENT.get(name, ""))}


def completed(conninfo: str) -> dict[str, Any]:
    """Return libpq's parameters of a URL or a key=value text, with our patience. Raises psycopg.ProgrammingError for what libpq does not take."""
    given: dict[str, Any] = conninfo_to_dict(conninfo)
    return patience(given) | given
