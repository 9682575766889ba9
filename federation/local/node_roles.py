"""Logins of its own at PostgreSQL for each node: may what the roles of the program may, and be neither; knows no broker and writes no event."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import psycopg
from psycopg import errors, sql

from federation.errors import Conflict, DatabaseUnavailable, NotFound, Refused, SettingsError
from federation.results.patience import completed

# What a node may is what these may: for each it has a role that inherits it and cannot become it. Neither name begins as the other does.
_PREFIXES = {"federation_app": "federation_node_", "federation_service": "federation_nodeservice_"}
ACTING_AS = tuple(_PREFIXES)
_ANY = "^federation_node(service)?_"
_ENDS_WITHIN_MS = 5_000
# Nobody who is to be shut out has this wait for him.
_WAITS, _TRIES = "SET lock_timeout = '3s'", 10
# As whom the program ends what goes on after a node's day.
_SIGNALS = "GRANT pg_signal_backend TO {owner} WITH INHERIT TRUE, SET FALSE"
# What the owner of a database elsewhere needs to let nodes in, who is no superuser.
RIGHTS = (
    "ALTER ROLE federation_owner CREATEROLE",
    "GRANT federation_app, federation_service TO federation_owner WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
    _SIGNALS.format(owner="federation_owner"),
)


@dataclass(frozen=True, slots=True)
class NodeRole:
    """A node's logins; `expires_at` None where they last for ever, `shut_out` where PostgreSQL kept a role, `sessions` those open now."""

    node: str
    expires_at: datetime | None
    expired: bool
    shut_out: bool
    sessions: int


class Unended(DatabaseUnavailable):
    """Sessions go on although they were told to end: PostgreSQL does not look for that everywhere, and what they have locked stays so.

    `pids` are their processes, on PostgreSQL's machine.
    """

    def __init__(self, role: str, pids: Sequence[int]) -> None:
        self.role, self.pids = role, pids
        processes = " ".join(map(str, pids))
        super().__init__(
            f"PostgreSQL does not end the sessions of {role}, which may do nothing in this database any more, but keep what they have locked; on its "
            f"machine, kill them, by which it starts anew, and call again: kill -KILL {processes}"
        )


def name_of(node: str, acting: str = ACTING_AS[0]) -> str:
    """Return the name of a node's role that may what this one may."""
    return _PREFIXES[acting] + node


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
    """Return the logins of all nodes, by name."""
    query = """
        SELECT regexp_replace(rolname, %(any)s, '') AS node, nullif(min(coalesce(rolvaliduntil, 'infinity')), 'infinity'),
            coalesce(min(rolvaliduntil) <= clock_timestamp(), false), NOT bool_or(rolcanlogin),
            (sum((SELECT count(*) FROM pg_stat_activity WHERE usesysid = pg_roles.oid)))::int
        FROM pg_roles WHERE rolname ~ %(any)s GROUP BY node ORDER BY node
    """
    with _administered(url) as connection:
        return [NodeRole(*row) for row in connection.execute(query, {"any": _ANY})]


def let_in(url: str, node: str, password: str, *, lasting: timedelta | None) -> datetime | None:
    """Make the roles of a node, with this password, and return when they end. Raises Conflict where there are some, and as `renew`."""
    with _administered(url) as connection, connection.transaction():
        for acting in ACTING_AS:
            try:
                _execute(connection, "CREATE ROLE {role} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS", name_of(node, acting))
            except errors.DuplicateObject as error:
                raise Conflict(f"{node} has a login already; give it a new one with: federation node rotate {node}") from error
        _let_signal(connection)
        return _give(connection, node, password, lasting)


def renew(url: str, node: str, password: str, *, lasting: timedelta | None) -> datetime | None:
    """Give a node another password, end what is connected with the former one, and return when the new one ends.

    Raises NotFound, Refused for a URL whose role may not do so, DatabaseUnavailable.
    """
    with _administered(url) as connection:
        roles = _known(connection, node)
        if len(roles) < len(ACTING_AS):
            # One that could set the program's roles, of before there were two.
            shut_out(url, node)
            return let_in(url, node, password, lasting=lasting)
        # First: who is connected could give himself a password of his own.
        _close(connection, roles)
        with connection.transaction():
            for role in roles:
                if not _is_superuser(connection):
                    _execute(connection, "REVOKE {role} FROM CURRENT_USER GRANTED BY CURRENT_USER", role)
            return _give(connection, node, password, lasting)


def close(url: str, node: str) -> int:
    """Let nobody log in as a node, and end its sessions at once; return how many these were. Raises as `renew`."""
    with _administered(url) as connection:
        return _close(connection, _known(connection, node))


def shut_out(url: str, node: str) -> int:
    """Do as `close`, and remove the roles of a node with all that they have; return how many sessions were ended.

    Raises as `renew`, and Refused where PostgreSQL keeps a role that nobody can log in with any more.
    """
    with _administered(url) as connection:
        roles = _known(connection, node)
        ended = _close(connection, roles)
        try:
            for role in roles:
                for database in _with_something_of(connection, role):
                    with psycopg.connect(**{**completed(url), "dbname": database}, autocommit=True) as there:
                        there.execute(_WAITS)
                        _execute(there, "DROP OWNED BY {role}", role)
                _execute(connection, "DROP ROLE {role}", role)
        except psycopg.Error as error:
            told = str(error).partition("\n")[0]
            raise Refused(f"{node} is shut out, and its role {role} is left: {told}.", f"Then again: federation node remove {node}") from error
        return ended


def _let_signal(connection: psycopg.Connection[Any]) -> None:
    # A node's role given to the owner would put him under the policies for the program's roles.
    if _is_superuser(connection):
        query = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        for (owner,) in connection.execute(query).fetchall():
            connection.execute(sql.SQL(_SIGNALS).format(owner=sql.Identifier(owner)))


def _give(connection: psycopg.Connection[Any], node: str, password: str, lasting: timedelta | None) -> datetime | None:
    [now] = connection.execute("SELECT clock_timestamp()").fetchone() or [datetime.now(UTC)]
    ends = None if lasting is None else now + lasting
    for acting in ACTING_AS:
        role = name_of(node, acting)
        connection.execute(sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE").format(sql.Identifier(acting), sql.Identifier(role)))
        # The server gets a verifier and never the password, because it logs a statement that fails.
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        _execute(
            connection,
            "ALTER ROLE {role} LOGIN PASSWORD {password} VALID UNTIL {ends} CONNECTION LIMIT 50",
            role,
            password=verifier,
            ends=str(ends or "infinity"),
        )
    return ends


def _known(connection: psycopg.Connection[Any], node: str) -> list[str]:
    roles = [role for (role,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname ~ %s ORDER BY rolname", [_ANY])]
    found = [role for acting in ACTING_AS if (role := name_of(node, acting)) in roles]
    if not found:
        raise NotFound("node with a login of its own", node, sorted({re.sub(_ANY, "", role) for role in roles}))
    return found


def _is_superuser(connection: psycopg.Connection[Any]) -> bool:
    return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = current_user AND rolsuper").fetchone() is not None


def _close(connection: psycopg.Connection[Any], roles: Sequence[str]) -> int:
    """Take what they may from these, end their sessions, and let nobody log in; return how many sessions these were."""
    ended = 0
    connection.execute(_WAITS)
    # Of all first: with it goes the right to connect to this database.
    for role, acting in product(roles, ACTING_AS):
        connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(acting), sql.Identifier(role)))
    if not _is_superuser(connection):
        # Who made them is no member of them, and may do the rest as one.
        for role in roles:
            _execute(connection, "GRANT {role} TO CURRENT_USER WITH INHERIT TRUE, SET FALSE", role)
    # Those that were logging in may come after the others.
    ended += sum([*(_shut(connection, role) for role in roles), *(_wait_for_the_end(connection, role) for role in roles)])
    for role in roles:
        _reset(connection, role)
    return ended


def _shut(connection: psycopg.Connection[Any], role: str) -> int:
    """Let nobody log in as this role; return how many sessions were told to end for it."""
    told = 0
    for _ in range(_TRIES):
        told += len(_end_sessions(connection, role))
        try:
            _execute(connection, "ALTER ROLE {role} NOLOGIN PASSWORD NULL", role)
        except (errors.LockNotAvailable, errors.InternalError):
            # One that came meanwhile, to another database, is changing its own role.
            continue
        return told
    raise DatabaseUnavailable(f"The sessions of {role} keep its role from being changed; it may do nothing in this database any more")


def _wait_for_the_end(connection: psycopg.Connection[Any], role: str) -> int:
    """Return when a role has no session any more, and how many had to be ended for that. Raises Unended."""
    ended = 0
    while left := _end_sessions(connection, role):
        if unended := _left_of(connection, [pid for pid, has_ended in left if not has_ended]):
            raise Unended(role, unended)
        ended += len(left)
    return ended


def _reset(connection: psycopg.Connection[Any], role: str) -> None:
    """Take back what a role has set for its sessions, in all databases and in single ones: by it each new one may fail."""
    _execute(connection, "ALTER ROLE {role} RESET ALL", role)
    query = """
        SELECT d.datname FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
        WHERE s.setrole = (SELECT oid FROM pg_roles WHERE rolname = %s)
    """
    for (database,) in connection.execute(query, [role]).fetchall():
        resetting = sql.SQL("ALTER ROLE {} IN DATABASE {} RESET ALL")
        connection.execute(resetting.format(sql.Identifier(role), sql.Identifier(database)))


def _end_sessions(connection: psycopg.Connection[Any], role: str) -> list[tuple[int, bool]]:
    """Return the processes of the sessions that were told to end, and whether each has, which is false too of one that had gone by itself."""
    query = "SELECT pid, pg_terminate_backend(pid, %s) FROM pg_stat_activity WHERE usename = %s"
    return connection.execute(query, [_ENDS_WITHIN_MS, role]).fetchall()


def _left_of(connection: psycopg.Connection[Any], pids: Sequence[int]) -> list[int]:
    return [pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)", [list(pids)])]


def _with_something_of(connection: psycopg.Connection[Any], role: str) -> list[str]:
    """Return the databases that a role has something in, this one too."""
    query = """
        SELECT datname FROM pg_database WHERE datname = current_database() OR oid IN (
            SELECT dbid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)
        ) ORDER BY datname
    """
    return [name for (name,) in connection.execute(query, [role])]


def _execute(connection: psycopg.Connection[Any], statement: str, role: str, **literals: str) -> None:
    connection.execute(sql.SQL(statement).format(role=sql.Identifier(role), **{name: sql.Literal(text) for name, text in literals.items()}))
