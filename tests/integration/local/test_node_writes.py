"""What a hostile node writes with its own logins stands in nobody's way, and what it has set for itself ends with its login."""

import secrets
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql
from sqlalchemy.orm import Session

from federation.local import node_roles
from federation.services import agents, consensus, messages, node_logins, nodes, parts, replay, signers
from federation.services.electorates import Asked
from federation.services.nodes import Announcement
from federation.transaction import Transactions, connect
from tests.integration.local.test_node_roles import LASTING, node, url
from tests.integration.services.stating import made

__all__ = ["node"]
BIGGEST = 2**63 - 1
EVENT = "INSERT INTO events (stream, position, type, actor, payload, trace_id) VALUES (%s, %s, 'node.left', 'node:evil', '{}', 't')"
APPEND = "SELECT federation_append(%s, %s, %s, 'node:evil', NULL, NULL, %s, 't')"
MESSAGE = "INSERT INTO messages (conversation_id, position, sender) VALUES ('commons', %s, 'bob')"
KEY = "INSERT INTO signers (identity, name, public_key) VALUES (%s, %s, 'k')"


@pytest.fixture
def hostile(database: str, node: str) -> Iterator[psycopg.Connection[Any]]:
    """What the node's second role has open, in the node's own name."""
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    with psycopg.connect(url(database, node, "secret", "federation_service"), autocommit=True) as connection:
        connection.execute("SELECT set_config('federation.actor', %s, false)", [f"node:{node}"])
        yield connection


def refused(hostile: psycopg.Connection[Any], statement: str, *values: Any) -> None:
    with pytest.raises(errors.InsufficientPrivilege), hostile.transaction():
        hostile.execute(statement, values)


def test_it_leads_no_stream_to_where_nobody_can_write(database: str, hostile: psycopg.Connection[Any], transactions: Transactions) -> None:
    with transactions.begin("cli:root") as session:
        agents.rotate(session, "eve")
    with psycopg.connect(database) as root:
        before = root.execute("SELECT array_agg(s ORDER BY s.name)::text FROM streams s").fetchone()
    for stream in ("node:evil", "signer:x", "messages:commons", "agent:new"):
        refused(hostile, "INSERT INTO streams VALUES (%s, %s)", stream, BIGGEST)
    assert hostile.execute("UPDATE streams SET position = %s", [BIGGEST]).rowcount == 0
    refused(hostile, "DELETE FROM streams")
    assert hostile.execute("SELECT FROM streams FOR UPDATE").rowcount == 0
    # A place is taken for an event, or it is given back.
    refused(hostile, "SELECT federation_next_position('agent:eve')")
    with psycopg.connect(database) as root:
        assert root.execute("SELECT array_agg(s ORDER BY s.name)::text FROM streams s").fetchone() == before
    with transactions.begin("cli:root") as session:
        assert agents.revoke(session, "eve") == 1


def test_it_writes_at_no_place_that_was_not_taken_and_chooses_no_number(
    hostile: psycopg.Connection[Any], database: str, transactions: Transactions
) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "to all")
    for stream in ("agent:bob", "messages:commons", "node:new"):
        with psycopg.connect(database) as root:
            [reached] = root.execute("SELECT coalesce(max(position), 0) FROM streams WHERE name = %s", [stream]).fetchone() or [0]
        for place in (reached + 1, BIGGEST, 0, -1):
            refused(hostile, EVENT, stream, place)
            refused(hostile, APPEND, stream, place, "node.left", "{}")
    for place in (2, BIGGEST):
        refused(hostile, MESSAGE, place)
        refused(
            hostile,
            "INSERT INTO message_receipts (agent, position, message_id) SELECT 'dan', %s, id FROM messages LIMIT 1",
            place,
        )
        refused(
            hostile,
            "INSERT INTO conversation_phases (conversation_id, number, phase, reason) VALUES ('commons', %s, 'propose', '')",
            min(place, 2**31 - 1),
        )
    assert hostile.execute("UPDATE message_receipts SET position = position + 7").rowcount == 0
    with psycopg.connect(database) as root:
        [ahead] = root.execute("SELECT last_value + 1 FROM events_sequence_seq").fetchone() or [0]
    refused(
        hostile,
        "INSERT INTO events (stream, position, type, actor, payload, trace_id, sequence) OVERRIDING SYSTEM VALUE "
        "VALUES ('agent:bob', federation_next_position('agent:bob'), 'node.left', 'node:evil', '{}', 't', %s)",
        ahead,
    )
    with transactions.begin("ada") as session:
        messages.send(session, "to all, again")
    with transactions.begin("cli:root") as session:
        agents.rotate(session, "bob")
        agents.revoke(session, "bob")
    # A place that it takes it fills.
    with hostile.transaction(force_rollback=True):
        [taken] = hostile.execute("SELECT federation_next_position('agent:bob')").fetchone() or [0]
        # By the one way that looks at what is told there.
        refused(hostile, EVENT, "agent:bob", taken)
        hostile.execute(APPEND, ["agent:bob", taken, "node.left", "{}"])
        hostile.execute("SET CONSTRAINTS ALL IMMEDIATE")


def test_it_writes_nothing_of_the_logs_order_and_of_nodes_and_services_its_own(
    database: str, node: str, hostile: psycopg.Connection[Any], transactions: Transactions, publisher: Any
) -> None:
    refused(hostile, "INSERT INTO event_order VALUES (%s, 1, '\\x00')", BIGGEST)
    refused(
        hostile, "INSERT INTO seals (number, first, last, statement, signature, leaves) VALUES (%s, 1, %s, '{}', '\\x00', '\\x00')", BIGGEST, BIGGEST
    )
    refused(hostile, "INSERT INTO feeds (destination, agent, position, expires_s) VALUES ('/queue/federation.bob', 'bob', 0, 3600)")
    for statement in ("UPDATE event_relay SET published = 7", "UPDATE feeds SET position = 7", "DELETE FROM feeds"):
        assert hostile.execute(sql.SQL(statement)).rowcount == 0  # type: ignore[arg-type]

    with transactions.begin("node:taichi") as session:
        nodes.announce(session, announced("taichi"))
    refused(
        hostile,
        "INSERT INTO nodes SELECT (jsonb_populate_record(n, '{\"name\": \"ghost\"}')).* FROM nodes n WHERE name = 'taichi'",
    )
    assert hostile.execute("UPDATE nodes SET left_at = now()").rowcount == 0
    # As its worker does.
    engine = connect(url(database, node, "secret", "federation_service"))
    own = Transactions(engine, publisher)
    with own.begin(f"node:{node}") as session:
        assert nodes.announce(session, announced(node))
    with own.begin(f"node:{node}") as session:
        key = signers.register(session, f"node:{node}", made().public).identity
        signers.register_services(session, f"node:{node}", key)
    assert signs_for(transactions, key) == list(parts.acting_in(f"node:{node}"))[::-1] == ["service:outbox", "service:worker"]
    for column in ("last_seen_at", "announced_at"):
        refused(hostile, f"UPDATE nodes SET {column} = now() + interval '1 hour' WHERE name = '{node}'")
    with own.begin(f"node:{node}") as session:
        assert nodes.leave(session, node, INCARNATION)
    engine.dispose()

    refused(hostile, "INSERT INTO services (name, signer, role) VALUES ('service:door', %s, 'service')", key)
    with transactions.begin("cli:root") as session:
        others = signers.register(session, "node:taichi", made().public).identity
    refused(hostile, "INSERT INTO services (name, signer, role) VALUES ('service:worker', %s, 'service')", others)


def test_it_tells_nothing_of_keys_votes_and_statements_and_nothing_that_cannot_be_numbered_or_told(
    database: str, node: str, hostile: psycopg.Connection[Any], transactions: Transactions
) -> None:
    others = ("agent.added", "agent.key_added", "agent.key_revoked", "agent.token_issued", "statement.made", "consensus.voted", "feed.began")
    for told in (*others, "signer.revoked", "node.admitted", "node.removed", "graph.extracted"):
        refused(hostile, APPEND, "agent:bob", None, told, "{}")
    for told in ("task.>", "task.x,queue://federation.node.taichi", "", "task", "x" * 20_000, "Task.Left", "task.left\n"):
        refused(hostile, APPEND, "agent:bob", None, told, "{}")
    deep = "[" * 100 + "]" * 100
    for payload in ("[]", "5", "null", f'{{"x": {deep}}}', f'{{"x": "{secrets.token_hex(2**23)}"}}'):
        refused(hostile, APPEND, "agent:bob", None, "node.left", payload)
    refused(hostile, APPEND, "node:" + "x" * 10_000, None, "node.left", "{}")
    refused(hostile, APPEND, "graph", None, "node.left", '{"to": 9000000000000000000}')
    for told, name in (("signer.registered", "service:door"), ("signer.registered", "bob"), ("service.registered", "service:door")):
        refused(hostile, APPEND, "signer:x", None, told, f'{{"name": "{name}"}}')
    statement = (
        "INSERT INTO statements (digest, subject, actor, action, choice, mode, key, nonce, statement, signature) "
        "VALUES ('x', 'message:x', 'bob', 'message.send', 'send', 'signed', 'k', 'n', '{}', '\\x00')"
    )
    refused(hostile, statement)
    with transactions.begin("ada") as session:
        vote = consensus.request(session, Asked(question="Restart?", voters=["bob"])).id
    refused(hostile, "INSERT INTO ballots (consensus_id, revision, actor, response, reason) VALUES (%s, 1, 'bob', '[]', '')", vote)
    refused(hostile, "INSERT INTO consensus_acks (consensus_id, revision, actor, options_hash) VALUES (%s, 1, 'bob', 'x')", vote)
    assert hostile.execute("UPDATE consensus SET state = 'decided'").rowcount == 0
    # And not in the name of an agent, over its other role.
    with psycopg.connect(url(database, node, "secret", "federation_app"), autocommit=True) as as_bob:
        as_bob.execute("SELECT set_config('federation.actor', 'bob', false)")
        refused(as_bob, statement)
        refused(as_bob, APPEND.replace("node:evil", "bob"), "agent:bob", None, "agent.key_added", "{}")
    with hostile.transaction(force_rollback=True):
        hostile.execute(APPEND, ["signer:x", None, "signer.registered", f'{{"name": "node:{node}"}}'])
        hostile.execute(APPEND, ["signer:x", None, "service.registered", '{"name": "service:worker"}'])
        hostile.execute(APPEND, ["execution:x", None, "execution.delivered", '{"x": [[{"y": 1}]]}'])


@pytest.mark.parametrize(
    "change",
    [
        *("gpus = '5'", "gpus = '[5]'", """gpus = '[{"kind": "x"}]'""", """gpus = '[{"kind": "x", "vram_gib": 1e4000}]'"""),
        *("""gpus = '[{"kind": "x", "vram_gib": 1, "more": 1}]'""", "tags = ARRAY[NULL]", "engines = ARRAY[['a', 'b']]", "load = '[]'"),
        *("concurrency = 0", "concurrency = -1", "left_at = 'infinity'", "lost_at = '-infinity'", "announced_at = '-infinity'"),
        "last_seen_at = '0044-03-15 BC'",
    ],
)
def test_its_row_among_the_nodes_can_be_read_whatever_it_writes(
    node: str, hostile: psycopg.Connection[Any], transactions: Transactions, change: str
) -> None:
    with transactions.begin(f"node:{node}") as session:
        nodes.announce(session, announced(node))
    with pytest.raises((errors.CheckViolation, errors.InsufficientPrivilege)):
        hostile.execute(sql.SQL(f"UPDATE nodes SET {change}"))  # type: ignore[arg-type]
    with transactions.begin("service:beat") as session:
        assert [view.name for view in nodes.views(session, stale_s=60)] == [node]


INCARNATION = uuid.uuid4()


def announced(name: str) -> Announcement:
    return Announcement(name, "developer", (), (), (), (), (), 1, "here", 1, INCARNATION, False)


def signs_for(transactions: Transactions, identity: str) -> list[str]:
    with transactions.begin("cli:root") as session:
        return signers.services(session)[identity]


@pytest.mark.tampers
def test_it_has_a_hundred_keys_and_no_name_that_is_a_key(node: str, hostile: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.CheckViolation):
        hostile.execute(KEY, ["node:good-x", f"node:{node}"])
    with hostile.transaction(force_rollback=True):
        many = "INSERT INTO signers (identity, name, public_key) SELECT encode(sha256(i::text::bytea), 'hex'), %s, 'k' FROM generate_series(1, %s) i"
        refused(hostile, many, f"node:{node}", 101)
        hostile.execute(many, [f"node:{node}", 100])
        refused(hostile, KEY, secrets.token_hex(32), f"node:{node}")


@pytest.mark.tampers
def test_a_node_with_very_many_keys_is_removed_with_one_event(database: str, node: str, transactions: Transactions) -> None:
    with transactions.begin("cli:root") as session:
        kept = signers.register(session, "node:good", made().public).identity
        for _ in range(3):
            signers.register(session, f"node:{node}", made().public)
        signers.revoke(session, signers.register(session, f"node:{node}", made().public).identity)
    with transactions.begin("cli:root") as session:
        assert len(node_logins.record_removed(session, node)) == 3
    with transactions.begin("cli:root") as session:
        assert replay_differs(session) == []
    with psycopg.connect(database) as root:
        # As before there were a hundred at most.
        root.execute("SET federation.actor = 'test:hand'")
        root.execute(
            "INSERT INTO signers (identity, name, public_key) SELECT encode(sha256(i::text::bytea), 'hex'), %s, 'k' FROM generate_series(1, 20000) i",
            [f"node:{node}"],
        )
    with transactions.begin("cli:root") as session:
        assert len(node_logins.record_removed(session, node)) == 20_000
    with transactions.begin("cli:root") as session:
        assert {one.state for one in signers.everybody(session) if one.name == f"node:{node}"} == {"revoked"}
        assert signers.known(session, [kept])[kept].state == "valid"
        # None is left, and that is told too.
        assert node_logins.record_removed(session, node) == []
    with psycopg.connect(database) as root:
        told = root.execute("SELECT type, jsonb_array_length(payload->'keys') FROM events WHERE stream = %s ORDER BY position", [f"node:{node}"])
        assert told.fetchall() == [("node.removed", 3), ("node.removed", 20_000), ("node.removed", 0)]


def replay_differs(session: Session) -> list[replay.Difference]:
    return [one for one in replay.replay(session).differences if one.table == "signers"]


def test_an_exact_name_is_found_before_what_a_key_begins_with(transactions: Transactions) -> None:
    with transactions.begin("cli:root") as session:
        begins = signers.register(session, "node:begins", made().public).identity
        signers.register(session, begins[:8], made().public)
        assert [one.name for one in signers.revoke(session, begins[:8])] == [begins[:8]]


@pytest.mark.parametrize("acting", node_roles.ACTING_AS)
def test_what_it_has_set_for_its_sessions_is_taken_back_with_its_login(database: str, node: str, acting: str) -> None:
    node_roles.let_in(database, node, "secret", lasting=LASTING)
    role, here = node_roles.name_of(node, acting), database.rpartition("/")[2]
    kept = "SELECT count(*) FROM pg_db_role_setting WHERE setrole = %s::regrole"
    with psycopg.connect(url(database, node, "secret", acting), autocommit=True) as hostile:
        for setting in ("search_path", "default_transaction_read_only = on", "row_security = off", "role = 'none'", "local_preload_libraries = 'x'"):
            for where in ("", f"IN DATABASE {here}", "IN DATABASE postgres"):
                what = setting if " = " in setting else f"{setting} = evil"
                hostile.execute(sql.SQL(f"ALTER ROLE {{}} {where} SET {what}").format(sql.Identifier(role)))  # type: ignore[arg-type]
    with pytest.raises(psycopg.OperationalError, match="could not access file"):
        psycopg.connect(url(database, node, "secret", acting)).close()
    node_roles.renew(database, node, "another", lasting=LASTING)
    with psycopg.connect(url(database, node, "another", acting)) as connection:
        assert connection.execute("SHOW default_transaction_read_only").fetchone() == ("off",)
    with psycopg.connect(database, autocommit=True) as root:
        assert root.execute(kept, [role]).fetchone() == (0,)
        root.execute(sql.SQL("ALTER ROLE {} IN DATABASE {} SET row_security = off").format(sql.Identifier(role), sql.Identifier(here)))
        node_roles.close(database, node)
        assert root.execute(kept, [role]).fetchone() == (0,)
