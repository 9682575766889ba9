"""The whitepaper's calls as they stand there, votes over plain HTTP and with signatures, and an export that a stranger verifies."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastmcp.exceptions import ToolError
from pydantic import SecretStr

from federation.delivery.app import make
from federation.delivery.voices import PartVoice
from federation.security.decision_file import verify
from federation.security.signing import parse_public
from federation.services import agent_keys, consensus
from federation.services.consensus_export import exported
from federation.settings import Settings
from federation.transaction import Transactions

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
POLL = {"question": "Which auth approach?", "options": ["OAuth2", "JWT", "Custom"], "mechanism": "poll"}


@pytest.fixture
def attesting(postgres: Any, database: str, transactions: Transactions, tokens: dict[str, str], serve: Any, tmp_path: Path) -> Iterator[Any]:
    """A front door whose own key attests, as in a running federation."""
    url, service = (postgres.as_role(f"federation_{role}", database) for role in ("app", "service"))
    given = Settings(data_dir=tmp_path, broker_url=SecretStr("activemq://nobody@127.0.0.1:9/"), database_service_url=SecretStr(service))
    voice = PartVoice(make(lambda: given))
    with serve(Transactions(transactions.engine, transactions._publisher, service=transactions.service, voice=voice), url, tokens) as opened:
        yield opened


async def answer(client: Any, tool: str, **arguments: Any) -> Any:
    return (await client.call_tool(tool, arguments)).structured_content


async def test_the_whitepapers_calls_work_as_they_stand_there(attesting: Any) -> None:
    async with attesting.client("ada") as ada, attesting.client("bob") as bob, attesting.client("dan") as dan:
        # Without a name it has an id; with the name of §4.3 it is the vote that the other calls there name.
        plain = await answer(ada, "federation_consensus_request", **POLL)
        assert (plain["slug"], plain["options"]) == (None, POLL["options"])
        asked = await answer(ada, "federation_consensus_request", **POLL, consensus_id="auth-decision", voters=["ada", "bob", "dan"])
        for voter, response in ((bob, "OAuth2"), (dan, "JWT"), (ada, "OAuth2")):
            with pytest.raises(ToolError, match="you have not acknowledged what vote auth-decision is about"):
                await voter.call_tool("federation_consensus_respond", {"consensus_id": "auth-decision", "response": response})
            await answer(voter, "federation_consensus_acknowledge", consensus_id="auth-decision", options_hash=asked["options_hash"])
            voted = await answer(voter, "federation_consensus_respond", consensus_id="auth-decision", response=response)
        assert (voted["state"], voted["winner"], voted["mode"]) == ("decided", "OAuth2", "attested")
        found = await answer(dan, "federation_consensus_results", consensus_id="auth-decision")
    assert {name: found[name] for name in ("winner", "votes")} == {"winner": "OAuth2", "votes": {"OAuth2": 2, "JWT": 1}}


async def test_who_waits_for_the_outcome_is_woken_by_the_last_ballot(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob, anyio.create_task_group() as tasks:
        asked = await answer(ada, "federation_consensus_request", question="Deploy?", voters=["bob"])
        outcome: dict[str, Any] = {}

        async def wait() -> None:
            outcome.update(await answer(ada, "federation_consensus_results", consensus_id=asked["consensus_id"], wait_s=300))

        tasks.start_soon(wait)
        await house.heard(f"consensus:{asked['consensus_id']}")
        await answer(bob, "federation_consensus_acknowledge", consensus_id=asked["consensus_id"], options_hash=asked["options_hash"])
        await answer(bob, "federation_consensus_respond", consensus_id=asked["consensus_id"], response="yes", reason="Tested")
    assert (outcome["state"], outcome["winner"]) == ("decided", "yes")


async def test_vote_is_the_whitepapers_word_for_a_share(house: Any) -> None:
    async with house.client("ada") as ada:
        for more, mechanism in (({}, "majority"), ({"threshold": 0.7}, "threshold")):
            asked = await answer(ada, "federation_consensus_request", question="x", mechanism="vote", **more)
            assert (await answer(ada, "federation_consensus_results", consensus_id=asked["consensus_id"]))["mechanism"] == mechanism


async def test_changed_options_are_told_and_acknowledged_anew(house: Any) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        first = await answer(ada, "federation_consensus_request", **POLL, consensus_id="auth", voters=["bob"])
        second = await answer(
            ada, "federation_consensus_request", **POLL | {"options": ["mTLS", "JWT"], "mechanism": "majority"}, consensus_id="auth", replace=True
        )
        assert (second["revision"], second["options"], first["options_hash"] != second["options_hash"]) == (2, ["mTLS", "JWT"], True)
        [_, told] = (await answer(bob, "federation_inbox"))["messages"]
        assert second["options_hash"] in told["content"]
        with pytest.raises(ToolError, match=r"threshold: got 0\.7, wants nothing, where replace is true"):
            await answer(ada, "federation_consensus_request", question="x", consensus_id="auth", threshold=0.7, replace=True)
        with pytest.raises(ToolError, match="not the hash of what vote auth is about now"):
            await answer(bob, "federation_consensus_acknowledge", consensus_id="auth", options_hash=first["options_hash"])


async def test_several_options_and_words_that_do_not_fit(house: Any) -> None:
    async with house.client("ada") as ada:
        asked = await answer(ada, "federation_consensus_request", **POLL | {"mechanism": "ranked"}, voters=["ada"])
        name = asked["consensus_id"]
        await answer(ada, "federation_consensus_acknowledge", consensus_id=name, options_hash=asked["options_hash"])
        for given, says in (
            ({"response": "Kerberos"}, "response: got 'Kerberos', wants one of 'OAuth2'"),
            ({"choices": ["JWT", "JWT"]}, "each option once"),
            ({"choices": ["JWT"], "response": "JWT"}, "nothing beside response"),
            ({}, "response: got None, wants an option, or choices"),
        ):
            with pytest.raises(ToolError, match=says):
                await answer(ada, "federation_consensus_respond", consensus_id=name, **given)
        with pytest.raises(ToolError, match="confidence: got 2, wants a number from 0 to 1"):
            await answer(ada, "federation_consensus_respond", consensus_id=name, response="JWT", confidence=2)
        voted = await answer(ada, "federation_consensus_respond", consensus_id=name, choices=["JWT", "OAuth2"])
        assert (voted["response"], voted["winner"], voted["mode"]) == (["JWT", "OAuth2"], "JWT", None)


def signed(key: Ed25519PrivateKey, **fields: Any) -> dict[str, str]:
    """Sign as a client in any language would: nothing of ours, but a sorted object of JSON."""
    identity = sha256(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()
    said = {
        "type": "federation.statement/1",
        "at": datetime.now(UTC).isoformat(),
        "nonce": os.urandom(16).hex(),
        "key": identity,
        "attested_by": None,
    }
    text = json.dumps(said | fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"statement": text, "signature": base64.b64encode(key.sign(text.encode())).decode()}


async def test_ballots_signed_elsewhere_and_an_export_that_a_stranger_verifies(attesting: Any) -> None:
    key = Ed25519PrivateKey.generate()
    with attesting.transactions.begin("cli:root") as session:
        agent_keys.register(session, "bob", parse_public(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)))
    async with attesting.client("ada") as ada, attesting.client("bob") as bob:
        asked = await answer(ada, "federation_consensus_request", **POLL, consensus_id="auth", voters=["ada", "bob"], early=False)
        for voter in (ada, bob):
            await answer(voter, "federation_consensus_acknowledge", consensus_id="auth", options_hash=asked["options_hash"])

        def ballot(option: str) -> dict[str, Any]:
            about = {"options_hash": asked["options_hash"], "response": [option], "confidence": 0.9, "reason": "so"}
            hashed = sha256(json.dumps(about, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
            subject = f"consensus:{asked['consensus_id']}:1:bob"
            statement = signed(key, actor="bob", action="consensus.vote", choice=option, subject=subject, content_sha256=hashed)
            return {"consensus_id": "auth", "response": option, "confidence": 0.9, "reason": "so", **statement}

        with pytest.raises(ToolError, match="choice 'JWT', and what is asked for has 'OAuth2'"):
            await answer(bob, "federation_consensus_respond", **ballot("JWT") | {"response": "OAuth2"})
        assert (await answer(bob, "federation_consensus_respond", **ballot("JWT")))["mode"] == "signed"
        with pytest.raises(ToolError, match="both signatures are kept"):
            await answer(bob, "federation_consensus_respond", **ballot("OAuth2"))
        await answer(ada, "federation_consensus_respond", consensus_id="auth", response="JWT")
        found = await answer(ada, "federation_consensus_results", consensus_id="auth", ballots=True)
    assert (found["state"], found["void"], [one["choices"] for one in found["equivocations"]]) == ("undecided", ["bob"], [["JWT", "OAuth2"]])
    assert [(one["voter"], one["mode"]) for one in found["ballots"]] == [("ada", "attested"), ("bob", "signed")]
    with attesting.transactions.begin("cli:root") as session:
        [vote] = consensus.anywhere(session, "auth")
        document = json.loads(json.dumps(exported(session, vote)))
    verdict = verify(document)
    assert (verdict.flaws, verdict.equivocations) == ([], ["bob"])
    assert [(one.voter, one.attested_by is None) for one in verdict.vouched] == [("ada", False), ("bob", True)]


async def test_the_example_of_the_page_runs_as_it_stands(house: Any) -> None:
    script = ROOT / "docs" / "examples" / "auth_decision.py"
    given = {name.upper(): house.tokens[name] for name in ("ada", "bob", "dan")}
    command = [sys.executable, str(script), f"{house.url}/mcp"]
    done = await anyio.run_process(command, env={**os.environ, **given}, check=False, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == ["{'winner': 'OAuth2', 'votes': {'OAuth2': 2, 'JWT': 1}}"]
