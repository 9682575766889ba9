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
