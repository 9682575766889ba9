"""Looks whether the servers that the settings name take us, and says what is wrong in the words of the settings; changes nothing."""

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
from kombu import Connection
from pydantic import SecretStr

import federation.broker
from federation.errors import BrokerUnavailable, DatabaseUnavailable, FederationError, SettingsError
from federation.local import credentials, state
from federation.local.home import Home
from federation.results.patience import completed
from federation.settings import BROKER_URLS, Settings, masked, variable

assert federation.broker  # imported for its side effect: kombu then knows activemq://

ANSWERS_WITHIN_S = 4
_ROLES = {
    "database_url": "federation_app",
    "database_owner_url": "federation_owner",
    "database_service_url": "federation_service",
    "database_auditor_url": "federation_auditor",
}
# What a server says that will take us in a moment, or took its last guest.
_LATER = (
    *("starting up", "shutting down", "recovery", "too many clients", "connection slots"),
    *("connection refused", "timeout", "no route", "unreachable"),
    # Either is heard of what speaks TLS for a PostgreSQL that is away.
    *("server closed the connection", "unexpected eof"),
)
_ROW_OF_OURS = "select to_regclass('agents') is not null and has_table_privilege('agents', 'select')"
# Who passes row-level security, or comes under a policy that shows all, sees what each agent keeps from the others, and nothing would tell.
_HELD_BACK = """
    SELECT current_user,
        CASE
            WHEN bool_or(rolname = current_user AND rolsuper) THEN 'a superuser'
            WHEN bool_or(rolname = current_user AND rolbypassrls) THEN 'a role with BYPASSRLS'
            ELSE 'a member of ' || min(rolname) FILTER (WHERE rolname = ANY (%s) AND pg_has_role(oid, 'member'))
        END,
        coalesce(bool_or(rolname = %s AND pg_has_role(oid, 'usage')), false)
    FROM pg_roles
"""


def is_elsewhere(config: Settings, name: str) -> bool:
    """Say whether a URL is set and leads to a server that `federation up` does not run."""
    url: SecretStr | None = getattr(config, name)
    return url is not None and not credentials.load_or_make(Home(config.data_dir)).owns(url.get_secret_value())


def check_up(config: Settings) -> None:
    """Pass if the servers that `federation up` is to use and does not run take us. Raises as the check that fails first."""
    for check in _checks(config):
        check()


def problems(config: Settings) -> Iterator[FederationError]:
    """Yield what each of these checks raises."""
    for check in _checks(config):
        try:
            check()
        except FederationError as error:
            yield error


def _checks(config: Settings) -> Iterator[Callable[[], None]]:
    for name in BROKER_URLS:
        if is_elsewhere(config, name):
            yield partial(check_broker, config, name)
    for name in _ROLES:
        if is_elsewhere(config, name):
            yield partial(check_database, config, name, migrated=name == "database_url" and config.database_owner_url is None)


def check_broker(config: Settings, name: str = "broker_url") -> None:
    """Pass if ActiveMQ takes us. Raises SettingsError where trying again is useless, else BrokerUnavailable."""
    given: SecretStr | None = getattr(config, name)
    assert given is not None
    url = given.get_secret_value()
    transport = Connection(url, connect_timeout=ANSWERS_WITHIN_S).transport
    try:
        transport.close_connection(transport.establish_connection())
    except transport.connection_errors as error:
        later = isinstance(error, transport.recoverable_connection_errors) and not isinstance(error.__cause__, socket.gaierror)
        raise (BrokerUnavailable if later else SettingsError)(_told(name, url, "an ActiveMQ that takes us", str(error))) from error


def check_database(config: Settings, name: str = "database_url", *, migrated: bool = True) -> None:
    """Pass if PostgreSQL takes us, for agents as a role that sees no more than they may, and holds our tables where it is `migrated`.

    Raises SettingsError where trying again is useless, else DatabaseUnavailable.
    """
    given: SecretStr | None = getattr(config, name)
    if given is None:
        raise SettingsError(f"{variable(name)} is not set: start `federation up`, or name a PostgreSQL")
    url = given.get_secret_value()
    try:
        with psycopg.connect(**completed(url)) as connection:
            ours = connection.execute(_ROW_OF_OURS).fetchone()
            wrong = _flaw_of_role(connection) if name == "database_url" else None
    except psycopg.OperationalError as error:
        reason = str(error).partition("\n")[0].removeprefix("connection failed: ")
        later = any(word in str(error).lower() for word in _LATER)
        if later and not is_elsewhere(config, name):
            running = state.running(Home(config.data_dir)) is not None
            what_to_do = (
                "is running, and its PostgreSQL is not; see: federation status" if running else "is not running; start it with: federation up"
            )
            raise DatabaseUnavailable(f"the federation in {config.data_dir} {what_to_do} ({reason})") from error
        raise (DatabaseUnavailable if later else SettingsError)(_told(name, url, "a PostgreSQL that takes us", reason)) from error
    except psycopg.ProgrammingError as error:
        raise SettingsError(_told(name, url, "a URL of PostgreSQL", str(error).strip())) from error
    if wrong is not None:
        raise SettingsError(_told(name, url, f"the role `{_ROLES[name]}`, which row-level security holds back", wrong))
    if migrated and ours != (True,):
        raise SettingsError(
            _told(
                name,
                url,
                f"a migrated database and the role `{_ROLES[name]}`",
                "set FEDERATION_DATABASE_OWNER_URL and run `federation up` or alembic",
            )
        )


def _flaw_of_role(connection: psycopg.Connection[Any]) -> str | None:
    """Return why what agents ask for must not be done as this role, None if it may be."""
    app = _ROLES["database_url"]
    row = connection.execute(_HELD_BACK, [[role for role in _ROLES.values() if role != app], app]).fetchone()
    assert row is not None
    user, sees_all, is_app = row
    if sees_all is not None:
        return f"{user} is {sees_all} and would show each agent everything; connect as {app}, or as a member of it alone"
    return None if is_app else f"{user} is no member of {app}; connect as {app}"


def _told(name: str, url: str, wants: str, reason: str) -> str:
    return f"{variable(name)}: got {masked(url)!r}, wants {wants}: {reason}"
