"""`federation node` with a PostgreSQL and an ActiveMQ of one's own: roles are made there, and what the broker needs is said."""

import json
import shlex
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from kombu import Connection

from federation.delivery.app import QUEUE_PREFIX
from federation.local import node_roles


@pytest.fixture
def node(database: str) -> Iterator[str]:
    """A name that no other test has; its role is gone afterwards."""
    name = f"n{uuid.uuid4().hex[:10]}"
    yield name
    if name in [one.node for one in node_roles.everybody(database)]:
        node_roles.shut_out(database, name)


def told(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def given(file: str) -> dict[str, str]:
    lines = [line for line in Path(file).read_text().splitlines() if not line.startswith("#")]
    return dict(shlex.split(line)[0].split("=", 1) for line in lines)


def test_a_node_gets_a_role_and_a_file_and_the_broker_is_told_of_by_hand(
    acting: Callable[..., Any], surroundings: dict[str, str], database: str, data_dir: Path, node: str, activemq: Any
) -> None:
    refused = acting(None, "node", "add", node)
    assert (refused.returncode, "FEDERATION_DATABASE_OWNER_URL is not set" in refused.stderr) == (2, True)
    data_dir.mkdir()
    surroundings["FEDERATION_DATABASE_OWNER_URL"] = database
    for wrong in ("A", "1", "a.b", "a" * 41, "events", "a b", "*"):
        done = acting(None, "node", "add", wrong)
        assert (done.returncode, "name: got" in done.stderr) == (2, True), wrong
    assert acting(None, "node", "add", node, "--days", "-1").returncode == 2

    shown = acting(None, "node", "add", node, "--days", "7")
    assert shown.returncode == 0, shown.stderr
    variables = given(shown.stdout.strip())
    passwords = {urlsplit(url).password for url in variables.values()}
    assert len(passwords) == 2
    assert not any(str(password) in shown.stdout + shown.stderr for password in passwords)
    assert f'<authenticationUser username="node.{node}" password="…" groups="workers,node.{node}"/>' in shown.stderr
    assert f'<authorizationEntry queue="federation.node.{node}.&gt;" read="node.{node}"/>' in shown.stderr
    assert Path(shown.stdout.strip()).stat().st_mode & 0o777 == 0o600
    for name, role in (("FEDERATION_DATABASE_URL", f"federation_node_{node}"), ("FEDERATION_DATABASE_SERVICE_URL", f"federation_nodeservice_{node}")):
        with psycopg.connect(variables[name]) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (role,)
    # What `doctor` asks of the role of agents holds for it too.
    assert "row-level security" not in acting(None, "doctor").stdout
    again = acting(None, "node", "add", node)
    assert (again.returncode, f"federation node rotate {node}" in again.stderr) == (1, True)

    [listed] = [one for one in told(acting(None, "node", "list", "--json")) if one["name"] == node]
    assert (listed["database"], listed["broker"], listed["expired"]) == (True, None, False)
    renewed = told(acting(None, "node", "rotate", node, "--json"))
    assert (renewed["user"], renewed["file"]) == (f"node.{node}", shown.stdout.strip())
    assert renewed["roles"] == [f"federation_node_{node}", f"federation_nodeservice_{node}"]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(variables["FEDERATION_DATABASE_URL"])
    psycopg.connect(given(renewed["file"])["FEDERATION_DATABASE_URL"]).close()

    assert told(acting(None, "node", "rotate", node, "--days", "3", "--json"))["expires_at"]
    assert f"federation node rotate {node}; or shut it out" in acting(None, "doctor").stdout
    with psycopg.connect(given(renewed["file"])["FEDERATION_DATABASE_URL"]), psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE \"federation_node_{node}\" VALID UNTIL '2026-01-01'")
        [found] = [one for one in json.loads(acting(None, "doctor", "--json").stdout)["checks"] if one["check"] == "nodes' logins"]
        assert (found["verdict"], "and 1 sessions that it had opened go on" in found["saw"]) == ("fail", True)
        connection.execute(f'CREATE TABLE kept (); ALTER TABLE kept OWNER TO "federation_node_{node}"; CREATE VIEW seen AS SELECT FROM kept')
        left_for = f"/queue/{QUEUE_PREFIX}of-{node}"
        with Connection(activemq.url, transport_options={"queue_prefix": QUEUE_PREFIX}) as broker:
            broker.Producer().publish({}, routing_key=f"of-{node}", exchange="")
            kept = acting(None, "node", "remove", node)
            # What it left is gone by then: it is what takes longest, and who kills the command calls it again.
            assert broker.default_channel.connection.statistics().size(left_for).waiting == 0
        assert (kept.returncode, f"{node} is shut out, and its role federation_node_{node} is left" in kept.stderr) == (1, True)
        assert "Traceback" not in kept.stderr
        assert "shut out" in acting(None, "node", "list").stdout
        assert f"the node {node} is shut out, and PostgreSQL kept a role of it" in json.dumps(json.loads(acting(None, "doctor", "--json").stdout))
        connection.execute("DROP VIEW seen")
        with Connection(activemq.url, transport_options={"queue_prefix": QUEUE_PREFIX}) as broker:
            for _ in range(3):
                broker.Producer().publish({}, routing_key=f"of-{node}", exchange="")
            statistics = broker.default_channel.connection.statistics()
            assert statistics.size(left_for).waiting == 3
            removed = acting(None, "node", "remove", node)
            assert statistics.size(left_for).waiting == 0
    assert removed.stdout.startswith(f"{node} is shut out: 0 sessions ended, 0 keys revoked.\n")
    assert "messages that nobody vouches for were dropped from the queues of nodes" in removed.stdout
    assert f"Remove node.{node} from the users of your ActiveMQ" in removed.stderr
    assert not Path(renewed["file"]).exists()
    for verb in ("rotate", "remove"):
        done = acting(None, "node", verb, node)
        assert (done.returncode, "no node with a login of its own" in done.stderr) == (1, True)
