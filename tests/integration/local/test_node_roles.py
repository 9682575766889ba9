"""A node's own roles of PostgreSQL: they may what the roles of the program may, end on their day, and end at once where the node is shut out."""

import secrets
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from federation.errors import Conflict, NotFound, Refused
from federation.local import node_roles
from federation.local.postgres import KEPT
from federation.services import agent_keys, agents, conversations, messages, node_logins, sessions
from federation.services.sessions import Start
from federation.transaction import Transactions, connect
from tests.integration.services.stating import made

LASTING = timedelta(days=1)


@pytest.fixture
def node(database: str) -> Iterator[str]:
    """A name that no other test has; its role is gone afterwards."""
    name = f"n{uuid.uuid4().hex[:10]}"
    yield name
    if name in [one.node for one in node_roles.everybody(database)]:
        node_roles.shut_out(database, name)


def url(database: str, node: str, password: str, acting: str = "federation_app") -> str:
    return f"postgresql://{node_roles.name_of(node, acting)}:{password}@{database.rpartition('@')[2]}"


def refusal(address: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(address).close()
    return str(caught.value)


def test_it_may_what_the_roles_of_the_program_may_and_becomes_none_of_them(database: str, node: str) -> None:
    ends = node_roles.let_in(database, node, "secret", lasting=LASTING)
    assert ends is not None
    assert timedelta(hours=23) < ends - datetime.now(UTC) < timedelta(hours=25)
    for acting, sees in (("federation_app", 0), ("federation_service", 1)):
        with psycopg.connect(url(database, node, "secret", acting), autocommit=True) as connection:
            connection.execute("SELECT 1 FROM agents")
            privileged = "SELECT has_table_privilege('event_order', 'insert')::int"
            assert connection.execute(privileged).fetchone() == (sees,)
            for other in ("federation_app", "federation_service", "federation_owner", "federation_auditor", "postgres"):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(other)))
    with psycopg.connect(database) as connection:
        verifiers = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname ~ %s", [f"^federation_node.*_{node}$"]).fetchall()
    assert [verifier.startswith("SCRAM-SHA-256$") for (verifier,) in verifiers] == [True, True]


def test_no_name_of_a_node_is_anothers_second_role(database: str, node: str) -> None:
    names = (node, f"{node}_service", f"{node}service", f"service_{node}")
    for name in names:
        node_roles.let_in(database, name, "secret", lasting=LASTING)
    assert {one.node for one in node_roles.everybody(database)} >= set(names)
    for name in names[1:]:
        node_roles.shut_out(database, name)
    assert node in [one.node for one in node_roles.everybody(database)]
    assert len(node_roles.name_of("a" * 40, "federation_service")) <= 63


def test_a_hostile_node_takes_nothing_over_and_makes_no_one(postgres: Any, database: str, node: str, transactions: Transactions) -> None:
    with transactions.begin("cli:root") as session:
        kept = agents.rotate(session, "bob")
        agents.rotate(session, "eve")
        agents.revoke(session, "eve")
        key = agent_keys.register(session, "bob", made().public).identity
    shared = (
        "SELECT r.rolname, r.rolpassword, r.rolvaliduntil, s.setconfig FROM pg_authid r LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid "
        "WHERE r.rolname IN ('federation_app', 'federation_service', 'federation_owner') ORDER BY 1"
    )
    rows = "SELECT (SELECT array_agg(t ORDER BY t.id) FROM agent_tokens t)::text, (SELECT array_agg(a ORDER BY a.name) FROM agents a)::text"
    with psycopg.connect(database, autocommit=True) as root:
        before = root.execute(shared).fetchall(), root.execute(rows).fetchall()
        node_roles.let_in(database, node, "secret", lasting=LASTING)
        for acting in node_roles.ACTING_AS:
            with psycopg.connect(url(database, node, "secret", acting), autocommit=True) as hostile:
                hostile.execute("SELECT set_config('federation.actor', 'service:worker', false)")
                # It states nothing, and so holds nobody's key.
                assert hostile.execute("SELECT whose FROM federation_key(%s)", [key]).fetchone() is None
                for role in node_roles.ACTING_AS:
                    for statement in (
                        *(f"ALTER ROLE {role} {what}" for what in ("PASSWORD 'mine'", "SET search_path = 'evil'", "VALID UNTIL '2020-01-01'")),
                        f"ALTER ROLE {role} RENAME TO mine",
                        f"SET SESSION AUTHORIZATION {role}",
                        f"GRANT {role} TO federation_auditor",
                        f"ALTER ROLE {node_roles.name_of(node, acting)} VALID UNTIL 'infinity'",
                    ):
                        with pytest.raises(errors.InsufficientPrivilege):
                            hostile.execute(sql.SQL(statement))  # type: ignore[arg-type]
                for statement in (
                    "INSERT INTO agents (name, role, created_by) VALUES ('mine', 'lead', 'service:worker')",
                    "INSERT INTO agent_tokens (agent, token_sha256, created_by) VALUES ('bob', '\\x01', 'service:worker')",
                    "INSERT INTO agent_keys (identity, agent, public_key) VALUES ('i', 'bob', 'k')",
                ):
                    with pytest.raises(errors.InsufficientPrivilege):
                        hostile.execute(statement)
        with psycopg.connect(url(database, node, "secret", "federation_service"), autocommit=True) as hostile:
            for statement in (
                "UPDATE agent_tokens SET revoked_at = NULL",
                "UPDATE agent_tokens SET expires_at = 'infinity'",
                "UPDATE agents SET role = 'lead'",
                "UPDATE agent_keys SET revoked_at = now()",
                "SELECT FROM agent_tokens",
            ):
                assert hostile.execute(statement).rowcount == 0, statement
            assert hostile.execute("SELECT count(*) FROM agents").fetchone() != (0,)
        assert (root.execute(shared).fetchall(), root.execute(rows).fetchall()) == before
    # Nor does the program's own role: a token ends once, and no later.
    with psycopg.connect(postgres.as_role("federation_service", database), autocommit=True) as program, program.transaction(force_rollback=True):
        program.execute("SELECT set_config('federation.actor', 'service:beat', false)")
        for change in ("revoked_at = NULL", "revoked_at = now()", "agent = 'bob'", "token_sha256 = '\\x02'"):
            with pytest.raises(errors.InsufficientPrivilege), program.transaction():
                program.execute(f"UPDATE agent_tokens SET {change} WHERE agent = 'eve'")
        program.execute("UPDATE agent_tokens SET expires_at = now() + interval '1 day' WHERE agent = 'bob'")
        for later in ("'infinity'", "NULL"):
            with pytest.raises(errors.InsufficientPrivilege), program.transaction():
                program.execute(f"UPDATE agent_tokens SET expires_at = {later} WHERE agent = 'bob'")
    with transactions.begin("cli:root") as session:
        fresh = agents.rotate(session, "bob")
    with transactions.begin("cli:root") as session:
        assert agents.whose(session, [agents.digest(kept), agents.digest(fresh)]).keys() == {agents.digest(fresh)}


@pytest.mark.parametrize("acting", node_roles.ACTING_AS)
def test_what_a_hostile_node_leaves_behind_keeps_it_in_nowhere(database: str, node: str, acting: str) -> None:
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    address = url(database, node, "secret", acting)
    elsewhere = f"{database.rpartition('/')[0]}/postgres"
    with psycopg.connect(elsewhere, autocommit=True) as root:
        # As on a server that others set up, or that ours was before.
        root.execute(sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(sql.Identifier(node_roles.name_of(node, acting))))
    role = node_roles.name_of(node, acting)
    with psycopg.connect(address, autocommit=True) as hostile, psycopg.connect(f"{address.rpartition('/')[0]}/postgres", autocommit=True) as there:
        for connection in (hostile, there):
            connection.execute("SELECT lo_create(0)")
            connection.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
        hostile.execute(sql.SQL("ALTER ROLE {} PASSWORD 'mine'").format(sql.Identifier(role)))
        # An open change of its own role locks it.
        there.execute("BEGIN")
        there.execute(sql.SQL("ALTER ROLE {} PASSWORD 'mine too'").format(sql.Identifier(role)))
        node_roles.renew(database, node, "another", lasting=LASTING)
        for connection in (hostile, there):
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
    for former in ("secret", "mine"):
        assert "password authentication failed" in refusal(url(database, node, former, acting))
    psycopg.connect(url(database, node, "another", acting)).close()
    assert node_roles.shut_out(database, node) == 0
    assert node not in [one.node for one in node_roles.everybody(database)]


def test_a_node_that_comes_again_and_again_is_shut_out_with_both_roles(database: str, node: str) -> None:
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    stop = threading.Event()

    def come_again(acting: str) -> None:
        while not stop.is_set():
            try:
                with psycopg.connect(url(database, node, "secret", acting), autocommit=True) as connection:
                    connection.execute("SELECT pg_sleep(0.01)")
            except psycopg.OperationalError:
                stop.wait(0.005)

    threads = [threading.Thread(target=come_again, args=[acting]) for acting in node_roles.ACTING_AS for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        # With a table locked that the program writes to.
        with psycopg.connect(url(database, node, "secret", "federation_service")) as holding:
            holding.execute("LOCK TABLE streams IN ACCESS EXCLUSIVE MODE")
            node_roles.close(database, node)
            with pytest.raises(psycopg.OperationalError):
                holding.execute("SELECT 1")
        [gone] = [one for one in node_roles.everybody(database) if one.node == node]
        assert (gone.shut_out, gone.sessions) == (True, 0)
        node_roles.shut_out(database, node)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert node not in [one.node for one in node_roles.everybody(database)]


def test_a_session_that_does_not_end_is_told_by_its_process(database: str, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_roles, "_ENDS_WITHIN_MS", 200)
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    with psycopg.connect(url(database, node, "secret", "federation_service"), autocommit=True) as hostile:
        # PostgreSQL does not look up while it looks for a text in another: for some seconds.
        endless = threading.Thread(target=lambda: _until_it_is_ended(hostile, "SELECT strpos(repeat('a', 1500000), 'b' || repeat('a', 7000))"))
        endless.start()
        with psycopg.connect(database, autocommit=True) as root:
            busy = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
            while root.execute(busy, [hostile.info.backend_pid]).fetchone() != (1,):
                assert endless.is_alive()
        with pytest.raises(node_roles.Unended, match=f"kill -KILL {hostile.info.backend_pid}") as caught:
            node_roles.close(database, node)
        assert caught.value.pids == [hostile.info.backend_pid]
        [one] = [each for each in node_roles.everybody(database) if each.node == node]
        assert (one.shut_out, one.sessions) == (True, 1)
        endless.join()
    node_roles.shut_out(database, node)


def _until_it_is_ended(connection: psycopg.Connection[Any], statement: str) -> None:
    with suppress(psycopg.OperationalError):
        connection.execute(statement.encode())


def test_a_node_makes_no_key_known_but_its_own_and_revokes_no_other(database: str, node: str) -> None:
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    address = url(database, node, "secret", "federation_service")
    with psycopg.connect(address, autocommit=True) as hostile, hostile.transaction(force_rollback=True):
        hostile.execute("SELECT set_config('federation.actor', 'service:worker', true)")
        adding = "INSERT INTO signers (identity, name, public_key, created_by, updated_by) VALUES (%s, %s, 'k', 'service:worker', 'service:worker')"
        for name in ("service:door", "node:baby", f"node:{node}x"):
            with pytest.raises(errors.InsufficientPrivilege), hostile.transaction():
                hostile.execute(adding, [secrets.token_hex(32), name])
        hostile.execute(adding, [secrets.token_hex(32), f"node:{node}"])
        revoking = "UPDATE signers SET revoked_at = now() WHERE revoked_at IS NULL RETURNING name"
        assert hostile.execute(revoking).fetchall() == [(f"node:{node}",)]


def test_a_node_takes_no_policy_and_no_right_from_the_programs_roles(database: str, node: str) -> None:
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    policies = "SELECT count(*) FROM pg_policies WHERE roles && '{federation_app,federation_service}'"
    with psycopg.connect(database, autocommit=True) as root:
        # As `up` does where it makes the database.
        root.execute(KEPT)
        root.execute(KEPT)
        before = root.execute(policies).fetchone()
        for acting in node_roles.ACTING_AS:
            with psycopg.connect(url(database, node, "secret", acting), autocommit=True) as hostile:
                for statement in (f"DROP OWNED BY {acting}", f"DO $$ BEGIN DROP OWNED BY {acting}; END $$", "SELECT lo_create(0)"):
                    with pytest.raises(errors.InsufficientPrivilege):
                        hostile.execute(sql.SQL(statement))  # type: ignore[arg-type]
        assert root.execute(policies).fetchone() == before != (0,)
    node_roles.shut_out(database, node)


def test_one_role_that_could_become_the_programs_is_replaced_by_two(database: str, node: str) -> None:
    with psycopg.connect(database, autocommit=True) as root:
        former = sql.Identifier(node_roles.name_of(node))
        root.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(former))
        root.execute(sql.SQL("GRANT federation_app, federation_service TO {} WITH INHERIT FALSE, SET TRUE").format(former))
        root.execute(sql.SQL("GRANT {} TO federation_owner WITH INHERIT TRUE, SET FALSE").format(former))
        node_roles.renew(database, node, "another", lasting=LASTING)
        assert root.execute("SELECT pg_has_role('federation_owner', 'federation_app', 'USAGE')").fetchone() == (False,)
    for acting, other in (node_roles.ACTING_AS, node_roles.ACTING_AS[::-1]):
        with psycopg.connect(url(database, node, "another", acting)) as connection:
            query = "SELECT pg_has_role(%(one)s, 'USAGE'), pg_has_role(%(one)s, 'SET'), pg_has_role(%(two)s, 'MEMBER')"
            assert connection.execute(query, {"one": acting, "two": other}).fetchone() == (True, False, False)


def test_what_postgresql_does_not_drop_is_told_and_lets_nobody_in(database: str, node: str) -> None:
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    role = sql.Identifier(node_roles.name_of(node))
    with psycopg.connect(database, autocommit=True) as root:
        root.execute(sql.SQL("CREATE TABLE kept (); ALTER TABLE kept OWNER TO {}; CREATE VIEW seen AS SELECT FROM kept").format(role))
        with pytest.raises(Refused, match=f"{node} is shut out, and its role federation_node_{node} is left: cannot drop"):
            node_roles.shut_out(database, node)
        assert "password authentication failed" in refusal(url(database, node, "secret"))
        assert [one.shut_out for one in node_roles.everybody(database) if one.node == node] == [True]
        root.execute("DROP VIEW seen")
    node_roles.shut_out(database, node)
    assert node not in [one.node for one in node_roles.everybody(database)]


def test_what_agents_ask_for_over_it_is_held_to_what_they_may_write(database: str, node: str, transactions: Transactions, publisher: Any) -> None:
    """The function that gives places runs as the tables' owner, and must know who acts and not who has logged in."""
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    engines = [connect(url(database, node, "secret", acting)) for acting in node_roles.ACTING_AS]
    over = Transactions(engines[0], publisher, service=engines[1])
    with over.begin("ada") as session:
        conversations.open_for(session, "nt", [])
        messages.send(session, "psst", conversation_id="nt")
    with transactions.begin("ada") as session:
        mine = sessions.join(session, "psst", Start(context={"task": "psst"}), conversation_id="nt").id
    for actor, stream in (("eve", f"session:{mine}"), ("eve", "node:taichi"), ("ada", "graph")):
        with psycopg.connect(url(database, node, "secret", "federation_app")) as connection, pytest.raises(errors.InsufficientPrivilege) as caught:
            connection.execute("SELECT set_config('federation.actor', %s, true)", [actor])
            connection.execute("SELECT federation_next_position(%s)", [stream])
        assert f"is not one that {actor} writes in" in str(caught.value)
    append = "SELECT federation_append(%s, %s, 'task.completed', %s, %s, NULL, '{}', 't')"
    for actor, *event in (
        ("eve", f"session:{mine}", None, "eve", "nt"),
        ("eve", f"session:{mine}", 1, "ada", "nt"),
        ("eve", "agent:eve", None, "ada", None),
        ("eve", "agent:eve", None, "eve", "nt"),
        ("node:taichi", "node:taichi", None, "node:taichi", None),
        ("", "agent:eve", None, "eve", None),
    ):
        with psycopg.connect(url(database, node, "secret", "federation_app")) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT set_config('federation.actor', %s, true)", [actor])
            connection.execute(append, event)
    with psycopg.connect(url(database, node, "secret", "federation_service")) as connection:
        assert connection.execute("SELECT federation_next_position('node:taichi')").fetchone() == (1,)
        connection.execute(append, ("node:taichi", None, "node:taichi", None))
        assert connection.execute("SELECT position FROM events WHERE stream = 'node:taichi'").fetchone() == (2,)
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
    with (
        psycopg.connect(url(database, node, "secret")) as late,
        psycopg.connect(url(database, node, "secret", "federation_service")) as later,
        psycopg.connect(url(database, other, "secret")) as stays,
    ):
        with transactions.begin("service:beat") as session:
            assert node_logins.end_expired(session) == {}
        with psycopg.connect(database) as connection:
            for acting in node_roles.ACTING_AS:
                connection.execute(sql.SQL("ALTER ROLE {} VALID UNTIL '2026-01-01'").format(sql.Identifier(node_roles.name_of(node, acting))))
        with psycopg.connect(postgres.as_role("federation_app", database)) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT federation_end_expired()")
        with transactions.begin("service:beat") as session:
            assert node_logins.end_expired(session) == {node: 2}
        for ended in (late, later):
            with pytest.raises(psycopg.OperationalError):
                ended.execute("SELECT 1")
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
