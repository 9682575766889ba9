"""Claims over MCP: decided in the front door, with no worker, no node and no ActiveMQ; won by one, waited for in line, signed by who wins."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastmcp.exceptions import ToolError

from federation.security.signing import parse_public
from federation.services import agent_keys, claim_lines

pytestmark = pytest.mark.anyio

FILE = {"resource": "file:src/main.py"}


def rows(database: str, query: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        return connection.execute(query).fetchall()


async def test_claims_are_decided_while_activemq_and_all_workers_are_away(alone: Any, database: str) -> None:
    async with alone.client("ada") as ada, alone.client("bob") as bob:
        await ada.call_tool("federation_delegate", {"description": "d", "task_id": "t", "executor": "agent"})
        for tool, what in (("federation_claim_task", {"task_id": "t"}), ("federation_claim", FILE)):
            won = (await bob.call_tool(tool, what)).structured_content
            assert (won["claimed"], won["holder"], won["fencing_token"], won["note"]) == (True, "bob", 1, None)
            lost = (await ada.call_tool(tool, what)).structured_content
            assert (lost["claimed"], lost["holder"], lost["fencing_token"], lost["expires_at"]) == (False, "bob", None, won["expires_at"])
        assert (await ada.call_tool("federation_task_status", {"task_id": "t"})).data.assigned_to == "bob"
    assert rows(database, "SELECT * FROM executions") == []


async def test_of_many_at_two_front_doors_one_wins(postgres: Any, database: str, transactions: Any, tokens: dict[str, str], serve: Any) -> None:
    url = postgres.as_role("federation_app", database)
    with serve(transactions, url, tokens) as one, serve(transactions, url, tokens) as other:
        async with one.client("ada") as ada, one.client("bob") as bob, other.client("dan") as dan, other.client("eve") as eve:
            for number in range(8):
                resource = {"resource": f"file:raced/{number}"}
                answers = await asyncio.gather(*(each.call_tool("federation_claim", resource) for each in (ada, bob, dan, eve)))
                told = [answer.structured_content for answer in answers]
                assert sorted(answer["claimed"] for answer in told) == [False, False, False, True]
                assert len({answer["holder"] for answer in told}) == 1


async def test_who_loses_a_task_is_told_what_to_do(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("dan") as dan, house.client("eve") as eve:
        await ada.call_tool("federation_delegate", {"description": "d", "task_id": "t"})
        await dan.call_tool("federation_claim_task", {"task_id": "t"})
        answer = (await bob.call_tool("federation_claim_task", {"task_id": "t"})).data
        assert (answer.claimed, answer.holder) == (False, "dan")
        assert answer.note == "dan holds it; take another task, or wait for its end with federation_task_result and wait_s"
        await bob.call_tool("federation_claim_task", {"task_id": "t", "wait_s": 0.1})
        await dan.call_tool("federation_release_task", {"task_id": "t"})
        behind = (await eve.call_tool("federation_claim_task", {"task_id": "t"})).data
    assert (behind.claimed, behind.holder) == (False, None)
    assert behind.note == "others wait for it before you; take another task, or wait in line with wait_s"


async def test_two_race_for_a_claim_and_one_wins(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("dan") as dan:
        task = (await ada.call_tool("federation_delegate", {"description": "Profile memory", "task_id": "memory-profile"})).data
        claim = {"task_id": "memory-profile", "description": "Running valgrind analysis"}
        racers = {"bob": bob, "dan": dan}
        answers = {
            name: (await answer).data
            for name, answer in [(n, asyncio.ensure_future(c.call_tool("federation_claim_task", claim))) for n, c in racers.items()]
        }
        (winner,) = [name for name, answer in answers.items() if answer.claimed]
        (loser,) = racers.keys() - {winner}
        assert (answers[loser].holder, answers[loser].fencing_token) == (winner, None)
        token = answers[winner].fencing_token
        assert answers[winner].expires_at > answers[winner].expires_at.now(answers[winner].expires_at.tzinfo)
        renewed = (await racers[winner].call_tool("federation_claim_task", {**claim, "ttl_s": 600})).data
        assert (renewed.claimed, renewed.fencing_token) == (True, token)
        completion = {"task_id": str(task.task_id), "fencing_token": token, "result": {"leaks": 0}}
        with pytest.raises(ToolError, match=f"{winner} holds"):
            await racers[loser].call_tool("federation_complete_task", completion)
        await racers[winner].call_tool("federation_complete_task", completion)
        with pytest.raises(ToolError, match="completed already"):
            await racers[loser].call_tool("federation_claim_task", claim)


async def test_who_waits_in_line_is_woken_by_who_gives_back(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing but a notice comes in time.
    monkeypatch.setattr(claim_lines, "LOOK_S", 3600.0)
    async with house.client("bob") as bob, house.client("dan") as dan:
        held = (await bob.call_tool("federation_claim", {"resource": "file:/line/main.py", "description": "tidying", "ttl_s": 600})).data
        assert (held.claimed, held.resource, held.fencing_token) == (True, "file:line/main.py", 1)
        lost = (await dan.call_tool("federation_claim", {"resource": "file:line/**"})).data
        assert (lost.claimed, lost.holder, lost.place) == (False, "bob", None)
        assert lost.note == "bob holds file:line/main.py (tidying). Wait in line with wait_s, or do something else."
        waiting = asyncio.create_task(dan.call_tool("federation_claim", {"resource": "file:line/**", "wait_s": 240}))
        await house.heard("line:dan")
        assert (await bob.call_tool("federation_release", {"resource": "file:line/main.py"})).data.released
        won = (await waiting).data
        assert (won.claimed, won.fencing_token, won.place) == (True, 2, None)
        with pytest.raises(ToolError, match=r"Claim before you code: dan holds file:line/main\.py \(as file:line/\*\*\) until"):
            await bob.call_tool("federation_claim", {"resource": "file:line/main.py", "fencing_token": 1})


async def test_who_waits_in_line_wakes_when_the_holders_time_is_over(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_lines, "LOOK_S", 3600.0)
    async with house.client("bob") as bob, house.client("dan") as dan:
        assert (await bob.call_tool("federation_claim", {"resource": "file:short/main.py", "ttl_s": 1})).data.claimed
        won = (await dan.call_tool("federation_claim", {"resource": "file:short/main.py", "wait_s": 240})).data
        assert won.claimed


async def test_who_waited_in_vain_keeps_the_place_for_the_next_call(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("dan") as dan:
        await ada.call_tool("federation_claim", {"resource": "file:vain/main.py"})
        told = (await bob.call_tool("federation_claim", {"resource": "file:vain/main.py", "wait_s": 0.1})).data
        assert (told.claimed, told.place) == (False, 1)
        assert (await dan.call_tool("federation_claim", {"resource": "file:vain/**", "wait_s": 0.1})).data.place == 2
        [held] = (await dan.call_tool("federation_claims", {"resource": "file:vain/**"})).structured_content["claims"]
        assert (held["holder"], held["waiting"], held["fencing_token"]) == ("ada", ["bob", "dan"], None)
        assert (await dan.call_tool("federation_release", {"resource": "file:vain/**"})).data.left_line


async def test_who_waits_for_a_task_gets_it_when_it_is_given_back(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_lines, "LOOK_S", 3600.0)
    async with house.client("ada") as ada, house.client("bob") as bob, house.client("dan") as dan:
        await ada.call_tool("federation_delegate", {"description": "Profile memory", "task_id": "in-line"})
        assert (await bob.call_tool("federation_claim_task", {"task_id": "in-line"})).data.claimed
        waiting = asyncio.create_task(dan.call_tool("federation_claim_task", {"task_id": "in-line", "wait_s": 240}))
        await house.heard("line:dan")
        await bob.call_tool("federation_release_task", {"task_id": "in-line"})
        won = (await waiting).data
        assert (won.claimed, won.holder, won.fencing_token) == (True, "dan", 2)


class Signing:
    """An agent whose client signs by itself, as a page says it: a sorted object of JSON."""

    def __init__(self, house: Any, name: str) -> None:
        self._name, self._key, self._numbers = name, Ed25519PrivateKey.generate(), count(1)
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with house.transactions.begin("cli:root") as session:
            agent_keys.register(session, name, parse_public(pem))

    def takes(self, resource: str, *, at: datetime | None = None, ttl_s: int = 60) -> dict[str, Any]:
        """Return the arguments of a claim, with the statement of it."""
        about = f'{{"description":"","fencing_token":null,"ttl_s":{ttl_s}}}'
        said = {
            **{"type": "federation.statement/1", "actor": self._name, "action": "claim.take", "choice": "take", "subject": f"claim:{resource}"},
            **{"content_sha256": sha256(about.encode()).hexdigest(), "at": (at or datetime.now(UTC)).isoformat()},
            **{"nonce": f"{next(self._numbers):032x}", "attested_by": None},
            "key": sha256(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest(),
        }
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return {
            **{"resource": resource, "ttl_s": ttl_s, "statement": text},
            "signature": base64.b64encode(self._key.sign(text.encode())).decode(),
        }


STATED = "SELECT actor, action, mode FROM statements ORDER BY created_at"


async def test_who_wins_after_waiting_has_signed_it_and_who_loses_has_stated_nothing(attesting: Any, database: str) -> None:
    signing = Signing(attesting, "ada")
    async with attesting.client("ada") as ada, attesting.client("bob") as bob:
        await bob.call_tool("federation_claim", FILE)
        asked = signing.takes(FILE["resource"])
        for more in ({}, {"wait_s": 0.1}):
            assert not (await ada.call_tool("federation_claim", asked | more)).data.claimed
        assert rows(database, STATED) == [("bob", "claim.take", "attested")]
        # What was not stated is not used up.
        waiting = asyncio.create_task(ada.call_tool("federation_claim", asked | {"wait_s": 240}))
        await attesting.heard("line:ada")
        await bob.call_tool("federation_release", FILE)
        assert (await waiting).data.claimed
        with pytest.raises(ToolError, match="this one, or its nonce, was used already"):
            await ada.call_tool("federation_claim", asked)
        assert (await ada.call_tool("federation_claim", signing.takes(FILE["resource"], ttl_s=600))).data.fencing_token == 2
    mine = [("ada", "claim.take", "signed")] * 2
    assert rows(database, STATED) == [("bob", "claim.take", "attested"), ("bob", "claim.release", "attested"), *mine]


async def test_what_is_signed_wrongly_or_long_ago_wins_nothing(attesting: Any, database: str) -> None:
    signing = Signing(attesting, "ada")
    name = FILE["resource"]
    async with attesting.client("ada") as ada:
        for wrong, says in (
            (signing.takes(name, at=datetime.now(UTC) - timedelta(minutes=11)), "set the clock, or sign it anew"),
            (signing.takes(name) | {"resource": "file:other.py"}, "subject"),
            (signing.takes(name) | {"ttl_s": 61}, "content_sha256"),
            (signing.takes(name) | {"signature": base64.b64encode(bytes(64)).decode()}, "the signature is not that of key"),
            (signing.takes(name) | {"signature": None}, "both, statement and signature"),
        ):
            for wait_s in (0, 60):
                with pytest.raises(ToolError, match=says):
                    await ada.call_tool("federation_claim", wrong | {"wait_s": wait_s})
    assert rows(database, "SELECT resource FROM claims UNION ALL SELECT digest FROM statements") == []
