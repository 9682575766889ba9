"""What comes over plain HTTP is attested by the door, what its caller signed is signed; over stdio it is signed with the key that stays there."""

import base64
import json
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError

from federation.charter import charter_text
from federation.delivery.signer import KeyRevoked, name_of_process
from federation.delivery.voices import agent_voice
from federation.security.signing import load, load_public, parse_public
from federation.services import agent_keys, agents, resource_claims, signers, task_claims, tasks
from federation.settings import Settings

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
GATE = {"description": "Restart the cache", "parameters": {"share": 0.5, "then": "look"}, "task_id": "gate", "requires_approval": True}


def stated(database: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        query = "SELECT actor, action, choice, mode, attested_by FROM statements ORDER BY created_at"
        return connection.execute(query).fetchall()


async def parked(bob: Any) -> str:
    return str((await bob.call_tool("federation_delegate", GATE)).data.task_id)


async def test_plain_http_is_attested_by_the_door_whose_key_stays_with_it(attesting: Any, database: str, tmp_path: Path) -> None:
    async with attesting.client("bob") as bob, attesting.client("ada") as ada:
        await parked(bob)
        await ada.call_tool("federation_approve", {"task_id": "gate", "decision": "approve"})
        token = (await bob.call_tool("federation_claim_task", {"task_id": "gate"})).data.fencing_token
        await bob.call_tool("federation_complete_task", {"task_id": "gate", "fencing_token": token, "result": {"leaks": 0.5}})
        with pytest.raises(ToolError, match="approved by ada already"):
            await ada.call_tool("federation_approve", {"task_id": "gate", "decision": "reject", "reason": "no"})
        await bob.call_tool("federation_send", {"content": "No leaks", "to": "ada"})
        await ada.call_tool("federation_ask", {"content": "Are you sure?", "to": "bob", "wait_s": 0})
        await bob.call_tool("federation_delegate", GATE | {"task_id": "other"})
        await bob.call_tool("federation_cancel_task", {"task_id": "other"})
        designated = {"conversation_id": "project", "agent": "bob", "role": "developer"}
        await ada.call_tool("federation_assign_role", designated | {"subtask": "Build it", "task_id": "build"})
        await ada.call_tool("federation_assign_role", designated | {"subtask": "build", "agent": "dan"})
    me = name_of_process()
    assert stated(database) == [
        ("bob", "task.delegate", "delegate", "attested", me),
        ("ada", "task.decide", "approve", "attested", me),
        ("bob", "task.claim", "claim", "attested", me),
        ("bob", "task.complete", "completed", "attested", me),
        ("bob", "message.send", "send", "attested", me),
        ("ada", "message.send", "send", "attested", me),
        ("bob", "task.delegate", "delegate", "attested", me),
        ("bob", "task.cancel", "cancel", "attested", me),
        ("ada", "role.assign", "assign", "attested", me),
        ("ada", "role.assign", "assign", "attested", me),
    ]
    [file] = [path for path in (tmp_path / "keys").iterdir() if not path.name.endswith(".pub.pem")]
    assert file.stat().st_mode & 0o777 == 0o600
    with attesting.transactions.begin("test:hand") as session:
        assert load(file).public.identity in signers.known(session, [load(file).public.identity])


def signed(key: Ed25519PrivateKey, **fields: Any) -> dict[str, str]:
    """Sign as a client in any language would: nothing of ours, but a sorted object of JSON."""
    identity = sha256(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()
    said = {"type": "federation.statement/1", "at": datetime.now(UTC).isoformat(), "nonce": "ab" * 16, "key": identity, "attested_by": None, **fields}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"statement": text, "signature": base64.b64encode(key.sign(text.encode())).decode()}


async def test_a_caller_over_http_may_bring_a_signature_of_its_own(attesting: Any, database: str) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with attesting.transactions.begin("cli:root") as session:
        agent_keys.register(session, "ada", parse_public(pem))
    async with attesting.client("bob") as bob, attesting.client("ada") as ada:
        task = await parked(bob)
        [shown] = (await ada.call_tool("federation_pulse")).structured_content["awaiting_approval"]
        status = (await ada.call_tool("federation_task_status", {"task_id": "gate"})).structured_content
        assert (shown["description"], shown["terms"]) == (status["description"], status["terms"])
        about = {"description": shown["description"], "reason": "tested", "terms": shown["terms"]}
        hashed = sha256(json.dumps(about, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
        said = {"actor": "ada", "action": "task.decide", "choice": "approve", "subject": f"task:{task}", "content_sha256": hashed}
        call = {"task_id": "gate", "decision": "approve", "reason": "tested"}
        for wrong, says in (
            (signed(key, **said | {"choice": "reject"}), "choice 'reject'"),
            (signed(Ed25519PrivateKey.generate(), **said), "federation agent key add ada FILE"),
            ({"statement": signed(key, **said)["statement"]}, "both, statement and signature"),
            (signed(key, **said) | {"signature": "AAAA"}, "64 bytes in base64"),
            ({"statement": "x" * 5000, "signature": "AAAA"}, "at most 4000 characters"),
        ):
            with pytest.raises(ToolError, match=says):
                await ada.call_tool("federation_approve", call | wrong)
        assert [action for _, action, *_ in stated(database)] == ["task.delegate"]
        once = call | signed(key, **said)
        first = await ada.call_tool("federation_approve", once)
        assert (await ada.call_tool("federation_approve", once)).data == first.data
    assert stated(database)[1:] == [("ada", "task.decide", "approve", "signed", None)]


async def test_a_caller_over_http_signs_what_it_says_claims_and_gives_back(attesting: Any, database: str) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with attesting.transactions.begin("cli:root") as session:
        agent_keys.register(session, "ada", parse_public(pem))
    with attesting.transactions.begin("ada") as session:
        task = tasks.delegate(session, "Profile the memory", slug="work")
        task_claims.claim(session, "work", description="", ttl_s=600)
        resource_claims.take(session, "file:a.py", ttl_s=600)
    numbers = count(1)

    def by_ada(action: str, subject: str, content: str) -> dict[str, str]:
        about = {"content_sha256": sha256(content.encode()).hexdigest(), "nonce": f"{next(numbers):032x}"}
        return signed(key, actor="ada", action=action, choice=action.partition(".")[2], subject=subject, **about)

    # As the page about keys has it.
    named = uuid.uuid5(uuid.UUID("6f0d3f0e-7c0c-5a55-9a53-0f4d2f1c8b11"), 'message/["project", "ada", "note"]')
    words = sha256(b"It leaks").hexdigest()
    said = f'"body_sha256":null,"content_sha256":"{words}","conversation_id":"project","message_type":"chat","reply_to":null,"to":"bob"'
    message = {"content": "It leaks", "to": "bob", "conversation_id": "project", "message_id": "note"}
    message |= by_ada("message.send", f"message:{named}", f'{{"audience":null,{said}}}')
    async with attesting.client("ada") as ada:
        first = await ada.call_tool("federation_send", message)
        assert (await ada.call_tool("federation_send", message)).data == first.data
        with pytest.raises(ToolError, match=r"message_id: got None, wants a name that you choose"):
            await ada.call_tool("federation_ask", {"content": "?"} | by_ada("message.send", f"message:{named}", "{}"))
        with pytest.raises(ToolError, match="content_sha256"):
            await ada.call_tool("federation_send", message | {"to": "dan"})
        for tool, arguments, action, content in (
            ("release_task", {"task_id": "work"}, "task.release", "{}"),
            ("release", {"resource": "file:a.py"}, "claim.release", "{}"),
            ("claim_task", {"task_id": "work", "ttl_s": 60}, "task.claim", '{"description":"","ttl_s":60}'),
            ("claim", {"resource": "file:a.py", "ttl_s": 60}, "claim.take", '{"description":"","fencing_token":null,"ttl_s":60}'),
        ):
            subject = f"task:{task.id}" if "task_id" in arguments else "claim:file:a.py"
            await ada.call_tool(f"federation_{tool}", arguments | by_ada(action, subject, content))
    done = ("message.send", "task.release", "claim.release", "task.claim", "claim.take")
    assert [(action, mode) for _, action, _, mode, _ in stated(database)[3:]] == [(action, "signed") for action in done]


async def test_a_caller_over_http_signs_what_it_hands_out(attesting: Any, database: str) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with attesting.transactions.begin("cli:root") as session:
        agent_keys.register(session, "ada", parse_public(pem))
    numbers = count(1)

    def by_ada(action: str, task: str, content: str) -> dict[str, str]:
        # As the page about keys has it.
        named = uuid.uuid5(uuid.UUID("6f0d3f0e-7c0c-5a55-9a53-0f4d2f1c8b11"), f'task/["project", "ada", "{task}"]')
        about = {"content_sha256": sha256(content.encode()).hexdigest(), "nonce": f"{next(numbers):032x}"}
        return signed(key, actor="ada", action=action, choice=action.partition(".")[2], subject=f"task:{named}", **about)

    terms = '"terms":{"capability":"fly","executor":"agent","parameters":{"share":0.5},"priority":5,"task_type":"investigate"}'
    asked = '{"conversation_id":"project","description":"Profile it","slug":"work",' + terms + "}"
    work = {"description": "Profile it", "capability": "fly", "parameters": {"share": 0.5}, "conversation_id": "project", "task_id": "work"}
    terms = '"terms":{"executor":"agent","priority":5,"reserved_for":"bob","task_type":"investigate"}'
    designated = '{"conversation_id":"project","description":"Build it","designated":"developer","slug":"build",' + terms + "}"
    build = {"conversation_id": "project", "agent": "bob", "role": "developer", "subtask": "Build it", "task_id": "build"}
    handed = {"conversation_id": "project", "agent": "dan", "role": "developer", "subtask": "build"}
    async with attesting.client("ada") as ada:
        for tool, arguments, action, about, altered in (
            ("delegate", work, "task.delegate", asked, {"description": "Drop it"}),
            ("assign_role", build, "role.assign", designated, {"role": "lead"}),
        ):
            once = by_ada(action, arguments["task_id"], about)
            before = stated(database)
            for wrong, says in (
                (once | altered, "content_sha256"),
                (once | {"task_id": "another"}, "subject"),
                (once | {"task_id": None}, "task_id: got None, wants a name that you choose, because what you sign names the task by it"),
                (by_ada("task.claim", arguments["task_id"], about), "action 'task.claim'"),
                (once | {"signature": base64.b64encode(bytes(64)).decode()}, "the signature is not that of key"),
                ({"statement": once["statement"]}, "both, statement and signature"),
            ):
                with pytest.raises(ToolError, match=says):
                    await ada.call_tool(f"federation_{tool}", arguments | wrong)
            assert stated(database) == before
            first = await ada.call_tool(f"federation_{tool}", arguments | once)
            assert (await ada.call_tool(f"federation_{tool}", arguments | once)).data == first.data
        await ada.call_tool("federation_assign_role", handed | by_ada("role.assign", "build", '{"agent":"dan","role":"developer"}'))
    verbs = ("task.delegate", "role.assign", "role.assign")
    assert stated(database) == [("ada", verb, verb.partition(".")[2], "signed", None) for verb in verbs]


async def test_where_a_signature_is_demanded_the_refusal_names_a_tool_that_takes_one(attesting: Any, chartered: Callable[[str], None]) -> None:
    chartered(charter_text().replace('= "attested"', '= "signed"'))
    here = {"session_id": "INC-1234"}
    async with attesting.client("ada") as ada, attesting.client("bob") as bob:
        await parked(bob)
        await ada.call_tool("swarm_join_session", here | {"context": {"task": "look"}, "voters": ["ada", "bob"]})
        await bob.call_tool("swarm_join_session", here)
        what = here | {"content": "Roll back", "type": "modify"}
        vote = (await bob.call_tool("swarm_propose_action", what | {"action_id": "rollback"})).structured_content["vote"]
        await bob.call_tool("swarm_propose_action", what | {"action_id": "tell", "requires_approval": False})
        token = (await ada.call_tool("swarm_claim_task", here | {"action_id": "tell"})).structured_content["fencing_token"]
        ballot = here | {"action_id": "rollback", "vote": "yes", "options_hash": vote["options_hash"]}
        for tool, arguments, instead in (
            ("federation_approve", {"task_id": "gate", "decision": "approve"}, "federation_approve"),
            ("swarm_vote", ballot, "federation_consensus_respond"),
            ("swarm_complete_task", here | {"action_id": "tell", "fencing_token": token, "result": {}}, "federation_complete_task"),
        ):
            with pytest.raises(ToolError, match=f"federation mcp.*, or pass statement and signature to {instead}"):
                await ada.call_tool(tool, arguments)
            [named] = [each for each in await ada.list_tools() if each.name == instead]
            assert {"statement", "signature"} <= set(named.input_schema["properties"])


async def test_who_reads_a_message_is_told_where_its_senders_own_key_signed_it(attesting: Any, tmp_path: Path) -> None:
    folder = tmp_path / "adas"
    folder.mkdir()
    attested, signed = {"content": "over http", "to": "bob"}, {"content": "with a key", "to": "bob"}
    async with attesting.client("ada") as ada, over_stdio(attesting, "ada", folder) as signing, attesting.client("bob") as bob:
        await ada.call_tool("federation_send", attested)
        await signing.call_tool("federation_send", signed)
        for tool, arguments in (("federation_inbox", {}), ("federation_history", {"conversation_id": "direct:ada:bob"})):
            first, second = (await bob.call_tool(tool, arguments)).structured_content["messages"]
            assert (first["content"], second["content"]) == ("over http", "with a key")
            # Where it is not so, nothing is said of it: an inbox is read often.
            assert ("signed" in first, second["signed"]) == (False, True), tool
        asked = (await bob.call_tool("federation_ask", {"content": "Sure?", "to": "ada", "wait_s": 0})).structured_content["request_id"]
        await signing.call_tool("federation_send", {"content": "yes", "reply_to": asked})
        answer = (await bob.call_tool("federation_ask_result", {"request_id": asked})).structured_content["answer"]
        assert (answer["content"], answer["signed"]) == ("yes", True)


def test_a_revoked_key_of_this_machine_is_told_with_what_to_do(attesting: Any, tmp_path: Path) -> None:
    given = Settings(data_dir=tmp_path / "adas")
    first = agent_voice(given, attesting.transactions, "ada")
    assert agent_voice(given, attesting.transactions, "ada").key.public == first.key.public
    with attesting.transactions.begin("cli:root") as session:
        agent_keys.revoke(session, "ada")
    with pytest.raises(KeyRevoked, match=r"agent-ada\.pem was revoked at .*: remove the file"):
        agent_voice(given, attesting.transactions, "ada")
    (tmp_path / "adas" / "keys" / "agent-ada.pem").unlink()
    second = agent_voice(given, attesting.transactions, "ada").key
    assert second.public != first.key.public
    assert load_public(tmp_path / "adas" / "keys" / "agent-ada.pub.pem") == second.public


def test_each_agent_has_a_key_of_its_own_whatever_it_is_called(attesting: Any, tmp_path: Path) -> None:
    names = ("a/b", "a@b", "a-b", "a_b", "x", "x.pub", "x.pub.pub", "x.pem")
    with attesting.transactions.begin("test:setup") as session:
        for name in names:
            agents.add(session, name, "developer")
    given = Settings(data_dir=tmp_path / "shared")
    made = {name: agent_voice(given, attesting.transactions, name).key.public.identity for name in names}
    assert len(set(made.values())) == len(names)
    assert made == {name: agent_voice(given, attesting.transactions, name).key.public.identity for name in names}
    assert len(list((tmp_path / "shared" / "keys").iterdir())) == 2 * len(names)


def over_stdio(house: Any, name: str, folder: Path) -> Client[StdioTransport]:
    environment = {
        "FEDERATION_DATA_DIR": str(folder),
        "FEDERATION_DATABASE_URL": house.database_url,
        "FEDERATION_DATABASE_SERVICE_URL": house.transactions.service.url.render_as_string(hide_password=False).replace("+psycopg", ""),
        "FEDERATION_BROKER_URL": "activemq://nobody@127.0.0.1:9/",
        "FEDERATION_TOKEN": house.tokens[name],
        "PYTHONPATH": str(ROOT),
    }
    return Client(StdioTransport(sys.executable, ["-m", "federation.cli.main", "mcp"], env=environment, cwd=str(folder)))


async def test_stdio_signs_with_a_key_that_it_makes_and_makes_known(attesting: Any, database: str, tmp_path: Path) -> None:
    async with attesting.client("bob") as bob:
        await parked(bob)
    folder = tmp_path / "adas"
    folder.mkdir()
    async with over_stdio(attesting, "ada", folder) as ada:
        await ada.call_tool("federation_approve", {"task_id": "gate", "decision": "approve"})
        with pytest.raises(ToolError, match="both signatures are kept"):
            await ada.call_tool("federation_approve", {"task_id": "gate", "decision": "reject", "reason": "no"})
        await ada.call_tool("federation_delegate", {"description": "Look at it"})
        designated = {"conversation_id": "project", "agent": "bob", "role": "developer", "subtask": "Build it"}
        await ada.call_tool("federation_assign_role", designated)
    assert stated(database)[1:] == [
        ("ada", "task.decide", "approve", "signed", None),
        ("ada", "task.decide", "reject", "signed", None),
        ("ada", "task.delegate", "delegate", "signed", None),
        ("ada", "role.assign", "assign", "signed", None),
    ]
    private = folder / "keys" / "agent-ada.pem"
    assert (private.stat().st_mode & 0o777, private.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    with attesting.transactions.begin("test:hand") as session:
        [known] = agent_keys.of(session, "ada")
    assert (known.identity, known.created_by) == (load(private).public.identity, "ada")
    assert "PRIVATE" not in known.public_key
