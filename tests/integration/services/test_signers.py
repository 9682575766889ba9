"""Keys that sign executions: known once, revoked once, and in nobody's power to replace."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import errors
from sqlalchemy import text

from federation.delivery.known_signers import FRESH_S, LASTS_S, MOST, KnownSigners
from federation.delivery.signer import Signer
from federation.errors import Conflict, NotFound
from federation.security.signing import PublicKey, SigningKey
from federation.services import parts, signers
from federation.transaction import Transactions

NODE = "node:taichi"


def made() -> PublicKey:
    return SigningKey(Ed25519PrivateKey.generate()).public


@pytest.fixture
def key(transactions: Transactions) -> PublicKey:
    """The key of taichi."""
    found = made()
    with transactions.begin(NODE) as session:
        signers.register(session, NODE, found)
    return found


def test_a_key_is_registered_once_and_keeps_its_name(transactions: Transactions, key: PublicKey, database: str) -> None:
    with transactions.begin("node:baby") as session:
        again = signers.register(session, "node:baby", key)
    assert (again.name, again.created_by, again.state) == (NODE, NODE, "valid")
    with psycopg.connect(database) as connection:
        told = connection.execute("SELECT type, actor, payload->>'identity' FROM events WHERE stream = %s", [f"signer:{key.identity}"]).fetchall()
    assert told == [("signer.registered", NODE, key.identity)]


def test_a_part_makes_known_its_key_and_the_services_that_it_signs_for(
    transactions: Transactions, postgres: Any, database: str, tmp_path: Path
) -> None:
    url = postgres.as_role("federation_service", database)
    keys = {}
    for name in (parts.BEAT, parts.DOOR, NODE):
        for _ in range(2):  # when it is started again it knows its key, and there is nothing new
            part = Signer(name, tmp_path, url)
            part.register()
            keys[name] = part.key.public.identity
    with transactions.begin("test:hand") as session:
        found = signers.services(session)
        told = session.execute(text("SELECT stream, actor, payload->>'name', payload->>'role' FROM events WHERE type = 'service.registered'")).all()
        rows = session.execute(text("SELECT 'signer:' || signer, created_by, name, role FROM services")).all()
    assert set(found[keys[parts.BEAT]]) == {parts.BEAT, parts.OUTBOX, parts.RELAY, parts.FEEDER, parts.SEALER, parts.REBALANCER}
    assert set(found[keys[parts.DOOR]]) == {parts.DOOR, parts.OUTBOX}
    assert set(found[keys[NODE]]) == {parts.WORKER, parts.OUTBOX}
    assert sorted(told) == sorted(rows)
    assert {row.role for row in rows} == {"service"}
    # Each of them has a key, so that whoever finds it in the log finds whose signature it is.
    assert {row.name for row in rows} == parts.SERVICES.keys()


def test_no_service_acts_that_is_not_in_the_list_of_them() -> None:
    package = Path(parts.__file__).parents[1]
    # The demo's agents are its own by the name of who added them.
    named = {name for file in package.rglob("*.py") for name in re.findall(r'"(service:[a-z]+)"', file.read_text())} - {"service:demo"}
    assert named == parts.SERVICES.keys()


def test_what_names_no_one_key_revokes_none(transactions: Transactions, key: PublicKey) -> None:
    shared = made()
    while shared.identity[0] != key.identity[0]:
        shared = made()
    with transactions.begin(NODE) as session:
        signers.register(session, NODE, shared)
    cases = (("", NotFound, "no signer"), ("node:taich", NotFound, "nearest: node:taichi"), (key.identity[0], Conflict, "give more of the identity"))
    for reference, error, says in cases:
        with pytest.raises(error, match=says), transactions.begin("cli:root") as session:
            signers.revoke(session, reference)
    with transactions.begin("cli:root") as session:
        assert {one.identity for one in signers.revoke(session, NODE)} == {key.identity, shared.identity}
    with pytest.raises(Conflict, match="revoked already"), transactions.begin("cli:root") as session:
        signers.revoke(session, key.identity)


@pytest.mark.parametrize("role", ["federation_app", "federation_service"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE signers SET public_key = 'mine'",
        "UPDATE signers SET name = 'node:mine'",
        "UPDATE signers SET identity = 'mine'",
        "UPDATE signers SET revoked_at = NULL, updated_by = 'mallory'",
        "UPDATE signers SET revoked_at = now() - interval '1 day', updated_by = 'mallory'",
        "DELETE FROM signers",
        "TRUNCATE signers CASCADE",
        "INSERT INTO signers (identity, name, public_key, created_by, updated_by) SELECT identity, 'node:mine', 'mine', 'm', 'm' FROM signers",
    ],
)
def test_no_role_of_the_program_replaces_a_key_or_takes_a_revocation_back(
    postgres: Any, database: str, transactions: Transactions, key: PublicKey, role: str, statement: str
) -> None:
    with transactions.begin("cli:root") as session:
        signers.revoke(session, key.identity)
    with psycopg.connect(postgres.as_role(role, database)) as connection, pytest.raises((errors.InsufficientPrivilege, errors.UniqueViolation)):
        connection.execute(statement)


@pytest.mark.parametrize("statement", ["UPDATE signers SET public_key = 'mine'", "DELETE FROM signers", "TRUNCATE signers CASCADE"])
def test_not_even_the_owner_changes_a_key_by_mistake(postgres: Any, database: str, key: PublicKey, statement: str) -> None:
    with psycopg.connect(postgres.as_role("federation_owner", database)) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)


def test_what_is_known_of_a_key_is_read_anew_and_forgotten(transactions: Transactions, key: PublicKey) -> None:
    now = [0.0]
    known = KnownSigners(clock=lambda: now[0])
    assert known.get(key.identity) is None
    with transactions.begin(NODE) as session:
        assert known.read(session, key.identity).key == key
        assert known.read(session, "0" * 64).key is None
    found = known.get(key.identity)
    assert found is not None
    assert found.name == NODE
    # Whoever makes up keys has each looked up once, and the memory of it lasts as long.
    assert known.get("0" * 64) is not None
    now[0] = FRESH_S
    assert not known.is_fresh(found)
    assert known.get(key.identity) is found
    now[0] = LASTS_S
    assert known.get(key.identity) is None
    assert known.last(key.identity) is found
    assert known.last("0" * 64) is None
    with transactions.begin("cli:root") as session:
        signers.revoke(session, key.identity)
        known.read(session, key.identity)
    assert known.last(key.identity) is None


def test_a_row_that_holds_another_key_than_it_is_named_after_is_nobodys(transactions: Transactions, database: str) -> None:
    mine, named = made(), made()
    with psycopg.connect(database) as connection:
        connection.execute("SET federation.actor = 'test'")
        connection.execute(
            "INSERT INTO signers (identity, name, public_key) VALUES (%s, %s, %s), (%s, 'x', 'no PEM')", [named.identity, NODE, mine.pem, "0" * 64]
        )
    known = KnownSigners()
    with transactions.begin(NODE) as session:
        assert known.read(session, named.identity).key is None
        assert known.read(session, "0" * 64).key is None


def test_made_up_keys_do_not_fill_the_memory(transactions: Transactions) -> None:
    known = KnownSigners()
    with transactions.begin(NODE) as session:
        for number in range(MOST + 5):
            known.read(session, f"{number:064x}")
    assert known.get(f"{0:064x}") is None
    assert known.get(f"{MOST + 4:064x}") is not None
