"""What is taken away stays taken away where the event that tells of it cannot be written, and the command says so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from federation.local import node_roles
from federation.services import agents, signers
from federation.transaction import Transactions
from tests.integration.cli.test_node import given, node, told
from tests.integration.services.stating import made

__all__ = ["node"]
# By whoever could write there, before it was held to places that are taken.
FULL = "INSERT INTO streams VALUES (%(stream)s, 9223372036854775807) ON CONFLICT (name) DO UPDATE SET position = excluded.position"
AHEAD = """
    INSERT INTO events (stream, position, type, actor, payload, trace_id)
    SELECT %(stream)s, 1 + coalesce((SELECT position FROM streams WHERE name = %(stream)s), 0), 'x', 'test:hand', '{}', 't'
"""


@contextmanager
def blocked(database: str, how: str, stream: str) -> Iterator[None]:
    """Nobody can write in this stream."""
    with psycopg.connect(database) as connection:
        connection.execute(FULL if how != "ahead" else AHEAD, {"stream": stream})
        if how != "held":
            connection.commit()
        yield
        connection.rollback()


def untold(done: Any, says: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{says}, and stays so; but the event log does not tell of it, because that could not be written: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.tampers
@pytest.mark.parametrize("how", ["full", "ahead", "held"])
def test_an_agent_and_a_key_are_revoked_all_the_same(
    acting: Callable[..., Any], database: str, transactions: Transactions, watch: Any, how: str
) -> None:
    key = made().public
    with transactions.begin("node:evil") as session:
        signers.register(session, "node:evil", key)
    with transactions.begin("cli:root") as session:
        count = sum(one.state == "valid" for one in agents.tokens(session, "bob"))
    with blocked(database, how, "agent:bob"):
        untold(acting(None, "agent", "revoke", "bob"), f"bob is turned away: {count} tokens revoked")
    with blocked(database, how, f"signer:{key.identity}"):
        untold(acting(None, "signer", "revoke", "node:evil"), "node:evil is revoked: 1 keys")
    with transactions.begin("cli:root") as session:
        assert [one for one in agents.tokens(session, "bob") if one.state == "valid"] == []
        assert signers.known(session, [key.identity])[key.identity].state == "revoked"
    # What is no error of the log is said as ever, and what can be told is.
    again = acting(None, "signer", "revoke", "node:evil")
    assert (again.returncode, "node:evil is revoked already" in again.stderr) == (1, True)
    assert acting(None, "agent", "revoke", "dan").returncode == 0
    watch.forget(database)


@pytest.mark.tampers
def test_a_node_is_removed_and_its_new_file_is_written_all_the_same(
    acting: Callable[..., Any], surroundings: dict[str, str], database: str, data_dir: Path, node: str, transactions: Transactions, watch: Any
) -> None:
    data_dir.mkdir()
    surroundings["FEDERATION_DATABASE_OWNER_URL"] = database
    file = told(acting(None, "node", "add", node, "--json"))["file"]
    before = given(file)
    key = made().public
    with transactions.begin(f"node:{node}") as session:
        signers.register(session, f"node:{node}", key)
    with blocked(database, "full", f"node:{node}"):
        untold(acting(None, "node", "rotate", node), f"{node} is let in by {file}")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(before["FEDERATION_DATABASE_URL"])
        for name in ("FEDERATION_DATABASE_URL", "FEDERATION_DATABASE_SERVICE_URL"):
            psycopg.connect(given(file)[name]).close()
        untold(acting(None, "node", "remove", node), f"{node} is shut out, and 1 keys revoked")
    assert node not in [one.node for one in node_roles.everybody(database)]
    assert not Path(file).exists()
    with transactions.begin("cli:root") as session:
        assert signers.known(session, [key.identity])[key.identity].state == "revoked"
    watch.forget(database)


HOLDS = {
    "token": "LOCK TABLE agent_tokens IN EXCLUSIVE MODE",
    "key": "SELECT FROM signers WHERE name = %(signer)s FOR UPDATE",
    # What it writes in that stream it may not commit, and holds until then.
    "event": "SELECT federation_next_position('agent:bob')",
}


@pytest.mark.tampers
@pytest.mark.parametrize("held", HOLDS)
def test_what_a_nodes_login_has_open_and_is_in_the_way_of_a_revocation_is_ended(
    acting: Callable[..., Any], database: str, node: str, transactions: Transactions, held: str
) -> None:
    node_roles.let_in(database, node, "secret", lasting=None)
    with transactions.begin(f"node:{node}") as session:
        signers.register(session, f"node:{node}", made().public)
    address = f"postgresql://{node_roles.name_of(node, 'federation_service')}:secret@{database.rpartition('@')[2]}"
    with psycopg.connect(address) as hostile:
        hostile.execute("SELECT set_config('federation.actor', 'node:evil', false)")
        hostile.execute(HOLDS[held], {"signer": f"node:{node}"})
        done = acting(None, *(("signer", "revoke", f"node:{node}") if held == "key" else ("agent", "revoke", "bob")))
        assert (done.returncode, f"Shut it out: federation node remove {node}" in done.stderr) == (0, True), done.stderr
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            hostile.execute("SELECT 1")
    with transactions.begin("cli:root") as session:
        if held == "key":
            assert {one.state for one in signers.everybody(session) if one.name == f"node:{node}"} == {"revoked"}
        else:
            assert {one.state for one in agents.tokens(session, "bob")} == {"revoked"}


@pytest.mark.tampers
def test_where_it_cannot_be_ended_it_is_named(acting: Callable[..., Any], database: str, node: str) -> None:
    node_roles.let_in(database, node, "secret", lasting=None)
    address = f"postgresql://{node_roles.name_of(node, 'federation_service')}:secret@{database.rpartition('@')[2]}"
    with psycopg.connect(database, autocommit=True) as root, psycopg.connect(address) as hostile:
        root.execute("REVOKE pg_signal_backend FROM federation_owner")
        hostile.execute(HOLDS["token"])
        done = acting(None, "agent", "revoke", "bob")
        root.execute("GRANT pg_signal_backend TO federation_owner WITH INHERIT TRUE, SET FALSE")
    assert (done.returncode, f"the login of node {node} holds what this needs" in done.stderr) == (1, True), done.stderr
    assert f"federation node remove {node}" in done.stderr


def test_no_login_of_a_node_ends_a_session_or_holds_anothers_key(database: str, node: str, transactions: Transactions) -> None:
    key = made().public
    with transactions.begin("node:taichi") as session:
        signers.register(session, "node:taichi", key)
    node_roles.let_in(database, node, "secret", lasting=None)
    for acting_as in node_roles.ACTING_AS:
        address = f"postgresql://{node_roles.name_of(node, acting_as)}:secret@{database.rpartition('@')[2]}"
        with psycopg.connect(address) as hostile:
            assert hostile.execute("SELECT * FROM federation_key(%s)", [key.identity]).fetchall() == []
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                hostile.execute("SELECT * FROM federation_end_in_the_way(1)")
