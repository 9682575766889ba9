"""How long a connection waits for PostgreSQL, where neither its URL nor the environment says, and what is not worth a wait."""

import os
import re
from collections.abc import Container, Mapping
from typing import Any

import psycopg
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
# Of what PostgreSQL says before there is a session, libpq passes on the text and no SQLSTATE. These are 3D000, 28000, 28P01 and 42501;
# a server that speaks another language than English is waited for, as one that is away is.
_REFUSALS = re.compile(
    r"""FATAL:\s+(?:
    database\ .*\ does\ not\ exist | role\ .*\ (?:does\ not\ exist|is\ not\ permitted\ to\ log\ in) | permission\ denied\ for\ database
    | (?:password|Peer|Ident|certificate)\ authentication\ failed | no\ pg_hba.conf\ entry\ for | pg_hba.conf\ rejects
    )""",
    re.VERBOSE,
)


def patience(given: Container[str]) -> dict[str, str]:
    """Return libpq's options (in seconds; tcp_user_timeout in ms) whose names are not among the given ones nor set in the environment."""
    return {name: value for name, value in _PATIENCE.items() if name not in given and not os.environ.get(_ENVIRONMENT.get(name, ""))}


def completed(conninfo: str) -> dict[str, Any]:
    """Return libpq's parameters of a URL or a key=value text, with our patience. Raises psycopg.ProgrammingError for what libpq does not take."""
    given: dict[str, Any] = conninfo_to_dict(conninfo)
    return patience(given) | given


def is_refusal(error: psycopg.OperationalError) -> bool:
    """Return whether a server that answers lets nobody in with such a URL, so that it need be changed and not tried again."""
    return bool(_REFUSALS.search(str(error))) or bool(error.pgconn and error.pgconn.needs_password)
