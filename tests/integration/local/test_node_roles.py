"""A node's own role of PostgreSQL: it acts as the roles of the program and no others, ends on its day, and ends at once where it is shut out."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import errors, sql

from federation.errors import Conflict, NotFound, Refused
from federation.local import node_roles
from federation.services import node_logins, sessions
from federation.services.sessions import Start
from federation.transaction import Transactions, connect

LASTING = timedelta(days=1)


@pytest.fixture
def node(database: str) -> Iterator[str]:
    """A name that no other test has; its role is gone afterwards."""
    name = f"n{uuid.uuid4().hex[:10]}"
    yield name
    if name in [one.node for one in node_roles.everybody(database)]:
        node_roles.shut_out(database, name)


def url(database: str, node: str, password: str, acting: str | None = None) -> str:
    server = database.rpartition("@")[2]
    options = f"?options={quote(f'-c role={acting}')}" if acting else ""
    return f"postgresql://{node_roles.name_of(node)}:{password}@{server}{options}"


def refusal(address: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(address).close()
    return str(caught.value)


def test_it_acts_as_the_roles_of_the_program_and_is_nothing_by_itself(database: str, node: str) -> None:
    ends = node_roles.let_in(database, node, "secret", lasting=LASTING)
    assert ends is not None
    assert timedelta(hours=23) < ends - datetime.now(UTC) < timedelta(hours=25)
    for acting in node_roles.ACTING_AS:
        with psycopg.connect(url(database, node, "secret", acting)) as connection:
            assert connection.execute("SELECT current_user, session_user").fetchone() == (acting, node_roles.name_of(node))
            # What a pool leaves behind does not lead out of it.
            connection.execute("RESET ROLE")
            assert connection.execute("SELECT current_user").fetchone() == (acting,)
    with psycopg.connect(url(database, node, "secret"), autocommit=True) as connection:
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT 1 FROM agents")
        for other in ("federation_owner", "federation_auditor", "postgres"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(other)))
    with psycopg.connect(database) as connection:
        [verifier] = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [node_roles.name_of(node)]).fetchone() or [""]
    assert verifier.startswith("SCRAM-SHA-256$")


def test_what_agents_ask_for_over_it_is_held_to_what_they_may_write(database: str, node: str, transactions: Transactions, publisher: Any) -> None:
    """The function that gives places runs as the tables' owner, and must know who acts and not who has logged in."""
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    engines = [connect(url(database, node, "secret", acting)) for acting in node_roles.ACTING_AS]
    over = Transactions(engines[0], publisher, service=engines[1])
    with over.begin("ada") as session:
        mine = sessions.join(session, "psst", Start(context={"task": "psst"}), conversation_id="nt").id
    for actor, stream in (("eve", f"session:{mine}"), ("eve", "node:taichi"), ("ada", "graph")):
        with psycopg.connect(url(database, node, "secret", "federation_app")) as connection, pytest.raises(errors.InsufficientPrivilege) as caught:
            connection.execute("SELECT set_config('federation.actor', %s, true)", [actor])
            connection.execute("SELECT federation_next_position(%s)", [stream])
        assert f"is not one that {actor} writes in" in str(caught.value)
    with psycopg.connect(url(database, node, "secret", "federation_service")) as connection:
        assert connection.execute("SELECT federation_next_position('node:taichi')").fetchone() == (1,)
        connection.rollback()
    for engine in engines:
        engine.dispose()


def test_one_that_has_ended_or_that_lasts_for_ever_says_so(database: str, node: str) -> None:
    node_roles.let_in(database, node, "secret", lasting=timedelta(microseconds=1))
    assert "password authentication failed" in refusal(url(database, node, "secret"))
    [ended] = [one for one in node_roles.everybody(database) if one.node == node]
    assert (ended.expired, ended.sessions) == (True, 0)
    assert node_roles.renew(database, node, "another", lasting=None) is None
    [lasts] = [one for one in node_roles.everybody(database) if one.node == node]
    assert (lasts.expired, lasts.expires_at) == (False, None)
    psycopg.connect(url(database, node, "another")).close()


def test_another_password_ends_the_former_and_what_was_open_with_it(database: str, node: str) -> None:
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    with pytest.raises(Conflict, match=f"federation node rotate {node}"):
        node_roles.let_in(database, node, "other", lasting=LASTING)
    with psycopg.connect(url(database, node, "secret", "federation_service"), autocommit=True) as listening:
        listening.execute("LISTEN federation")
        assert [one.sessions for one in node_roles.everybody(database) if one.node == node] == [1]
        node_roles.renew(database, node, "another", lasting=LASTING)
        with pytest.raises(psycopg.OperationalError):
            listening.execute("SELECT 1")
    assert "password authentication failed" in refusal(url(database, node, "secret"))
    psycopg.connect(url(database, node, "another")).close()


def test_who_is_shut_out_is_out_at_once_and_others_are_not(database: str, node: str) -> None:
    other = f"{node}-other"
    for name in (node, other):
        node_roles.let_in(database, name, "secret", lasting=LASTING)
    with psycopg.connect(url(database, node, "secret")) as gone, psycopg.connect(url(database, other, "secret")) as stays:
        assert node_roles.shut_out(database, node) == 1
        with pytest.raises(psycopg.OperationalError):
            gone.execute("SELECT 1")
        stays.execute("SELECT 1")
    assert "password authentication failed" in refusal(url(database, node, "secret"))
    node_roles.shut_out(database, other)
    with pytest.raises(NotFound):
        node_roles.shut_out(database, node)


def test_what_goes_on_after_its_day_is_ended_by_the_program_and_nothing_else_is(
    postgres: Any, database: str, node: str, transactions: Transactions
) -> None:
    other = f"{node}-other"
    for name in (node, other):
        node_roles.let_in(database, name, "secret", lasting=LASTING)
    with psycopg.connect(url(database, node, "secret")) as late, psycopg.connect(url(database, other, "secret")) as stays:
        with transactions.begin("service:beat") as session:
            assert node_logins.end_expired(session) == {}
        with psycopg.connect(database) as connection:
            connection.execute(sql.SQL("ALTER ROLE {} VALID UNTIL '2026-01-01'").format(sql.Identifier(node_roles.name_of(node))))
        with psycopg.connect(postgres.as_role("federation_app", database)) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT federation_end_expired()")
        with transactions.begin("service:beat") as session:
            assert node_logins.end_expired(session) == {node: 1}
        with pytest.raises(psycopg.OperationalError):
            late.execute("SELECT 1")
        stays.execute("SELECT 1")
    # He who ends them acts as none of them.
    with psycopg.connect(postgres.as_role("federation_owner", database), autocommit=True) as connection:
        for role in (node_roles.name_of(other), *node_roles.ACTING_AS):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    node_roles.shut_out(database, other)


@pytest.fixture
def owner(database: str) -> Iterator[tuple[str, str]]:
    """The URL of who owns a database elsewhere, no superuser; and its name."""
    name = f"owner_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(database, autocommit=True) as connection:
        here = connection.info.dbname
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
        connection.execute(f"GRANT CONNECT ON DATABASE {here} TO {name} WITH GRANT OPTION")
        yield f"postgresql://{name}:secret@{database.rpartition('@')[2]}", name
        connection.execute(f"REVOKE CONNECT ON DATABASE {here} FROM {name} CASCADE")
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"REVOKE federation_app, federation_service FROM {name} CASCADE")
        connection.execute(f"DROP ROLE {name}")


def test_the_owner_of_a_database_elsewhere_does_it_once_a_superuser_lets_him(database: str, owner: tuple[str, str], node: str) -> None:
    address, name = owner
    with pytest.raises(Refused, match="ALTER ROLE federation_owner CREATEROLE"):
        node_roles.let_in(address, node, "secret", lasting=LASTING)
    assert node not in [one.node for one in node_roles.everybody(database)]
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in node_roles.RIGHTS:
            connection.execute(statement.replace("federation_owner", name))
    node_roles.let_in(address, node, "secret", lasting=LASTING)
    for again in range(2):
        with psycopg.connect(url(database, node, f"secret{'!' * again}", "federation_app")) as connection:
            if again:
                assert node_roles.shut_out(address, node) == 1
            else:
                node_roles.renew(address, node, "secret!", lasting=LASTING)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
    assert node not in [one.node for one in node_roles.everybody(address)]
