"""A login of its own at PostgreSQL for each node: may act as the roles of the program, ends on its day; knows no broker and writes no event."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import errors, sql

from federation.errors import Conflict, DatabaseUnavailable, NotFound, Refused, SettingsError
from federation.results.patience import completed

# What a node does is done as one of these.
ACTING_AS = ("federation_app", "federation_service")
_PREFIX = "federation_node_"
_ENDS_WITHIN_MS = 10_000
# What the owner of a database elsewhere needs to let nodes in, who is no superuser.
RIGHTS = (
    "ALTER ROLE federation_owner CREATEROLE",
    "GRANT federation_app, federation_service TO federation_owner WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
)


@dataclass(frozen=True, slots=True)
class NodeRole:
    """A node's role; `expires_at` is None where it lasts for ever, `sessions` how many are open now."""

    node: str
    expires_at: datetime | None
    expired: bool
    sessions: int


def name_of(node: str) -> str:
    """Return the name of a node's role."""
    return _PREFIX + node


@contextmanager
def _administered(url: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        with psycopg.connect(**completed(url), autocommit=True) as connection:
            yield connection
    except errors.InsufficientPrivilege as error:
        given = f"A superuser gives him the right: {'; '.join(RIGHTS)}"
        raise Refused(f"The owner of your PostgreSQL may not let nodes in ({str(error).partition(chr(10))[0]}).", given) from error
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {str(error).partition(chr(10))[0]}") from error
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:
            raise
        raise SettingsError(f"FEDERATION_DATABASE_OWNER_URL wants a URL of PostgreSQL: {error}") from error


def everybody(url: str) -> list[NodeRole]:
    """Return the roles of all nodes, by name."""
    query = """
        SELECT rolname, nullif(rolvaliduntil, 'infinity'), coalesce(rolvaliduntil <= clock_timestamp(), false),
            (SELECT count(*) FROM pg_stat_activity WHERE usesysid = pg_roles.oid)
        FROM pg_roles WHERE starts_with(rolname, %s) ORDER BY rolname
    """
    with _administered(url) as connection:
        return [NodeRole(role.removeprefix(_PREFIX), *others) for role, *others in connection.execute(query, [_PREFIX])]


def let_in(url: str, node: str, password: str, *, lasting: timedelta | None) -> datetime | None:
    """Make the role of a node, with this password, and return when it ends. Raises Conflict where there is one, and as `renew`."""
    with _administered(url) as connection, connection.transaction():
        # The owner of a database elsewhere, who is no superuser, then may end the sessions of who he lets in.
        connection.execute("SET LOCAL createrole_self_grant = 'inherit'")
        try:
            _execute(connection, "CREATE ROLE {role} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOBYPASSRLS", node)
        except errors.DuplicateObject as error:
            raise Conflict(f"{node} has a login already; give it a new one with: federation node rotate {node}") from error
        for acting in ACTING_AS:
            connection.execute(sql.SQL("GRANT {} TO {} WITH INHERIT FALSE, SET TRUE").format(sql.Identifier(acting), sql.Identifier(name_of(node))))
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(name_of(node))))
        # As whom the program ends what goes on after its day. By this he may act as the node no more than before.
        query = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database() AND pg_get_userbyid(datdba) <> current_user"
        for (owner,) in connection.execute(query).fetchall():
            statement = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE")
            connection.execute(statement.format(sql.Identifier(name_of(node)), sql.Identifier(owner)))
        return _give(connection, node, password, lasting)


def renew(url: str, node: str, password: str, *, lasting: timedelta | None) -> datetime | None:
    """Give a node another password, end what is connected with the former one, and return when the new one ends.

    Raises NotFound, Refused for a URL whose role may not do so, DatabaseUnavailable.
    """
    with _administered(url) as connection:
        _known(connection, node)
        ends = _give(connection, node, password, lasting)
        _end_sessions(connection, node)
        return ends


def shut_out(url: str, node: str) -> int:
    """End the role of a node, and its sessions at once; return how many these were. Raises as `renew`."""
    with _administered(url) as connection:
        _known(connection, node)
        _execute(connection, "ALTER ROLE {role} NOLOGIN", node)
        ended = _end_sessions(connection, node)
        _execute(connection, "REVOKE CONNECT ON DATABASE {database} FROM {role}", node)
        _execute(connection, "DROP ROLE {role}", node)
        return ended


def _give(connection: psycopg.Connection[Any], node: str, password: str, lasting: timedelta | None) -> datetime | None:
    # The server gets a verifier and never the password, because it logs a statement that fails.
    verifier = connection.pgconn.encrypt_password(password.encode(), name_of(node).encode(), b"scram-sha-256").decode()
    [now] = connection.execute("SELECT clock_timestamp()").fetchone() or [datetime.now(UTC)]
    ends = None if lasting is None else now + lasting
    _execute(connection, "ALTER ROLE {role} LOGIN PASSWORD {password} VALID UNTIL {ends}", node, password=verifier, ends=str(ends or "infinity"))
    return ends


def _known(connection: psycopg.Connection[Any], node: str) -> None:
    roles = [role for (role,) in connection.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", [_PREFIX])]
    if name_of(node) not in roles:
        raise NotFound("node with a login of its own", node, [role.removeprefix(_PREFIX) for role in roles])


def _end_sessions(connection: psycopg.Connection[Any], node: str) -> int:
    query = "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity WHERE usename = %s"
    return len(connection.execute(query, [_ENDS_WITHIN_MS, name_of(node)]).fetchall())


def _execute(connection: psycopg.Connection[Any], statement: str, node: str, **literals: str) -> None:
    names = {"role": sql.Identifier(name_of(node)), "database": sql.Identifier(connection.info.dbname)}
    connection.execute(sql.SQL(statement).format(**names, **{name: sql.Literal(text) for name, text in literals.items()}))
