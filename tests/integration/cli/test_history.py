"""What was said, as an operator reads it at the command line: private words too, made inert, and who signed his own."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from federation.security.statements import KeyVoice
from federation.services import agent_keys, messages, signers
from federation.transaction import Transactions
from tests.integration.services.stating import made


@pytest.fixture(autouse=True)
def _servers(surroundings: dict[str, str], postgres: Any, database: str) -> None:
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
    }


def test_an_operator_reads_a_conversation_and_who_signed_in_it(federation: Callable[..., Any], transactions: Transactions) -> None:
    assert federation("history").stdout == "Nothing was said there.\n"
    unknown = federation("history", "ward")
    assert (unknown.returncode, "no conversation 'ward'" in unknown.stderr) == (1, True)
    ada, door = made(), made()
    with transactions.begin("ada") as session:
        agent_keys.register(session, "ada", ada.public)
    with transactions.begin("service:door") as session:
        signers.register(session, "service:door", door.public)
    said = {"mine \x1b[31m": KeyVoice(ada, "ada"), "the door's": KeyVoice(door, "service:door"), "nobody's": None}
    for content, voice in said.items():
        with transactions.begin("ada", voice=voice) as session:
            messages.send(session, content, to="bob")
    shown = [line.split() for line in federation("history", "direct:ada:bob").stdout.splitlines() if " ada " in line]
    assert [(line[0], line[3:]) for line in shown] == [
        ("1", ["ada", "bob", "chat", "signed", "mine", "\\x1b[31m"]),
        ("2", ["ada", "bob", "chat", "attested", "the", "door's"]),
        ("3", ["ada", "bob", "chat", "nobody's"]),
    ]
    told = json.loads(federation("history", "direct:ada:bob", "--json").stdout)
    assert [(one["content"], one["mode"]) for one in told["messages"]] == list(zip(said, ("signed", "attested", None), strict=True))
    last = federation("history", "direct:ada:bob", "--limit", "1")
    assert "nobody's" in last.stdout
    assert "(older ones: --before 3)" in last.stdout
    assert "mine" in federation("history", "direct:ada:bob", "--before", "2").stdout
