"""`federation mcp --url`: all of a front door elsewhere over stdio, and what its agent states is signed with a key that stays on its side."""

import asyncio
import base64
import json
import os
import signal
import ssl
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import mcp_types
import psycopg
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError

from federation.cli.bundle import write
from federation.delivery.sealing import key_file, seals_file
from federation.errors import PermanentError, Refused
from federation.local.certificates import Certificates
from federation.mcp.signing import SIGN, WANTED
from federation.security import seals
from federation.security.key_files import agent_key_file, own_key
from federation.security.signing import load
from federation.services import agent_keys, resource_claims, task_claims
from federation.settings import Settings
from federation.store.fixed_ids import named_id
from federation.stub.door import FrontDoor
from federation.transaction import reading
from tests.integration.mcp.lying import answering
from tests.integration.sealed_log import Log

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
HERE = {"conversation_id": "project"}


def environment(folder: Path, token: str) -> dict[str, str]:
    """Nothing of the federation but a token."""
    return {"FEDERATION_DATA_DIR": str(folder), "FEDERATION_TOKEN": token, "PYTHONPATH": str(ROOT)}


def command(url: str, *more: str) -> list[str]:
    return ["-m", "federation.cli.main", "mcp", "--url", f"{url}/mcp", *more]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data directory of an agent's machine."""
    made = tmp_path / "laptop"
    made.mkdir()
    return made


def stub(house: Any, name: str, folder: Path, **options: Any) -> Client[StdioTransport]:
    given = environment(folder, house.tokens[name])
    return Client(StdioTransport(sys.executable, command(house.url, "--as", name), env=given, cwd=str(folder), log_file=folder / "log"), **options)


def stated(database: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        return connection.execute("SELECT actor, action, choice, mode FROM statements ORDER BY created_at").fetchall()


async def test_whatever_the_front_door_has_is_there_over_stdio(house: Any, folder: Path) -> None:
    told: list[Any] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with house.client("ada") as direct, stub(house, "ada", folder, mode="legacy") as ada:
        assert ada.instructions == direct.instructions
        for tool, other in zip(await ada.list_tools(), await direct.list_tools(), strict=True):
            assert (tool.name, tool.title, tool.description, tool.input_schema) == (other.name, other.title, other.description, other.input_schema)
            assert tool.output_schema == other.output_schema
            assert tool.annotations == other.annotations
        [resource] = await ada.list_resources()
        assert (await ada.read_resource(resource.uri))[0].text == (await direct.read_resource(resource.uri))[0].text
        [prompt] = await ada.list_prompts()
        assert (await ada.get_prompt(prompt.name)).messages == (await direct.get_prompt(prompt.name)).messages
        with pytest.raises(ToolError, match="no argument 'too'; nearest: to"):
            await ada.call_tool("federation_send", {"content": "?", "too": "bob"})
        waiting = asyncio.create_task(ada.call_tool("federation_inbox", {"wait_s": 600}, progress_handler=hear))
        await house.heard("inbox:ada")
        async with asyncio.timeout(60):
            while "waiting for a message" not in told:
                await asyncio.sleep(0.05)
        async with house.client("bob") as bob:
            await bob.call_tool("federation_send", {"content": "hello", "to": "ada"})
        assert (await waiting).structured_content["messages"][0]["content"] == "hello"


async def test_what_is_stated_through_it_is_signed_and_over_plain_http_attested(attesting: Any, database: str, folder: Path) -> None:
    async with attesting.client("bob") as bob, stub(attesting, "ada", folder) as ada:
        await bob.call_tool(
            "federation_delegate", {"description": "Restart it", "task_id": "gate", "requires_approval": True, "parameters": {"x": 0.5}}
        )
        await ada.call_tool("federation_approve", {"task_id": "gate", "decision": "approve", "reason": "tested"})
        with pytest.raises(ToolError, match="of which it has signed 'approve' before"):
            await ada.call_tool("federation_approve", {"task_id": "gate", "decision": "reject", "reason": "no"})
        await ada.call_tool("federation_send", {"content": "It leaks", "to": "bob"})
        finding = {"category": "observation", "confidence": 1, "evidence": [{"source": "x", "query": None, "result": {"n": None}}]}
        await ada.call_tool("federation_send", {"content": "Look", "message_type": "finding", "body": finding, **HERE})
        asked = (await bob.call_tool("federation_ask", {"content": "Sure?", "to": "ada", "wait_s": 0})).structured_content["request_id"]
        await ada.call_tool("federation_send", {"content": "yes", "reply_to": asked})
        await ada.call_tool("federation_ask", {"content": "Who?", "to": "role:developer", "parameters": {"service": "auth"}, "wait_s": 0})
        made = await ada.call_tool("federation_delegate", {"description": "Profile it", "start_at": "2030-01-31T18:00:00+01:00", "role": "developer"})
        assert made.structured_content["slug"].startswith("signed-")
        await ada.call_tool("federation_delegate", {"description": "Ship it", "task_id": "ship", "parameters": {"deep": [1, {"x": None}]}, **HERE})
        await ada.call_tool("federation_delegate", {"description": "Part", "parent": "ship", "agent": "bob", "timeout_s": 60})
        assign = {"agent": "bob", "role": "developer", **HERE}
        await ada.call_tool("federation_assign_role", assign | {"subtask": "Build it"})
        await ada.call_tool("federation_assign_role", assign | {"subtask": "ship"})
        with attesting.transactions.begin("bob") as session:
            token = task_claims.claim(session, "ship", description="", ttl_s=600, conversation_id="project").fencing_token
            resource_claims.take(session, "file:b.py", ttl_s=600)
        await ada.call_tool("federation_cancel_task", {"task_id": str(made.structured_content["task_id"]), "reason": "found"})
        await ada.call_tool("federation_delegate", {"description": "Mine", "task_id": "mine", "agent": "ada", **HERE})
        token = (await ada.call_tool("federation_claim_task", {"task_id": "mine"})).structured_content["fencing_token"]
        assert (await ada.call_tool("federation_claim", {"resource": "file:a.py", "description": "refactoring"})).structured_content["claimed"]
        # Who loses signs nothing.
        assert not (await ada.call_tool("federation_claim", {"resource": "file:b.py"})).structured_content["claimed"]
        await ada.call_tool("federation_release", {"resource": "file:a.py"})
        await ada.call_tool("federation_complete_task", {"task_id": "mine", "fencing_token": token, "result": {"leaks": 0.5}})
        vote = {"question": "Which?", "options": ["b", "a"], "mechanism": "ranked", "voters": ["ada", "bob"], "consensus_id": "which"}
        digest = (await ada.call_tool("federation_consensus_request", vote)).structured_content["options_hash"]
        for one in (ada, bob):
            await one.call_tool("federation_consensus_acknowledge", {"consensus_id": "which", "options_hash": digest})
        mine = await ada.call_tool("federation_consensus_respond", {"consensus_id": "which", "choices": ["a", "b"], "confidence": 0.5, "reason": "x"})
        assert mine.structured_content["mode"] == "signed"
        other = await bob.call_tool("federation_consensus_respond", {"consensus_id": "which", "response": "abstain"})
        assert other.structured_content["mode"] == "attested"
        said = (await bob.call_tool("federation_history", {"conversation_id": "direct:ada:bob"})).structured_content["messages"]
        assert [(one["content"], one.get("signed")) for one in said][:1] == [("It leaks", True)]
    found = stated(database)
    assert {mode for actor, action, _, mode in found if actor == "bob"} == {"attested"}
    # To ask for a vote is not signed so far.
    by_ada = [(action, mode) for actor, action, _, mode in found if actor == "ada"]
    assert [action for action, mode in by_ada if mode == "attested"] == ["consensus.request"]
    assert [action for action, mode in by_ada if mode == "signed"] == [
        *("task.decide", "message.send", "message.send", "message.send", "message.send"),
        *("task.delegate", "task.delegate", "task.delegate", "role.assign", "role.assign", "task.cancel", "task.delegate"),
        *("task.claim", "claim.take", "claim.release", "task.complete", "consensus.vote"),
    ]
    key = folder / "keys" / "agent-ada.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    with attesting.transactions.begin("test:hand") as session:
        [known] = agent_keys.of(session, "ada")
    assert (known.identity, known.created_by) == (load(key).public.identity, "ada")
    log = Log(database, attesting.transactions, folder.parent / "seals")
    log.number()
    log.sealer.seal()
    with reading(attesting.transactions.service) as session:
        filed = seals.read(seals_file(log.folder))
        write(session, folder / "bundle", load(key_file(log.folder)).public, filed, progress=lambda done, total: None)
    verified = subprocess.run([sys.executable, "verify.py", "--statements"], cwd=folder / "bundle", capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    for said in ("task.decide: approve", "message.send: send", "task.delegate: delegate", "task.complete: completed", "consensus.vote: 2>1"):
        assert f"{said} by ada, signed\n" in verified.stdout
    assert "task.delegate: delegate by bob, attested" in verified.stdout


async def test_a_token_makes_the_first_key_known_and_no_other(attesting: Any, database: str, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "thief"
    other.mkdir()
    hello = {"content": "hello", "to": "bob"}
    async with stub(attesting, "ada", folder) as ada, stub(attesting, "ada", other) as thief:
        await ada.call_tool("federation_pulse")
        # Who states nothing needs no key.
        assert not (folder / "keys").exists()
        await ada.call_tool("federation_send", hello)
        with pytest.raises(ToolError, match=r"not known as ada's: make it known with `federation agent key add ada FILE`.*agent-ada\.pub\.pem"):
            await thief.call_tool("federation_send", hello)
        with attesting.transactions.begin("cli:root") as session:
            agent_keys.register(session, "ada", load(other / "keys" / "agent-ada.pem").public)
        await thief.call_tool("federation_send", hello)
        with attesting.transactions.begin("cli:root") as session:
            agent_keys.revoke(session, "ada")
        for one, place in ((ada, folder), (thief, other)):
            with pytest.raises(ToolError, match=rf"was revoked at .*: sign with another.*The key is {place}/keys/agent-ada\.pem"):
                await one.call_tool("federation_send", hello)
    assert [action for _, action, *_ in stated(database)] == ["message.send"] * 2
    with psycopg.connect(database) as connection:
        told = connection.execute("SELECT actor FROM events WHERE type = 'agent.key_added' ORDER BY sequence").fetchall()
    assert told == [("ada",), ("cli:root",)]


async def test_what_a_caller_signs_is_asked_before_anything_is_done(attesting: Any, database: str) -> None:
    send = {"content": "hello", "to": "bob"}
    async with attesting.client("ada") as ada:
        asked = await ada.call_tool_mcp("federation_send", send | {"message_id": "m"}, meta={SIGN: {}})
        assert asked.is_error
        wanted = asked.meta[WANTED]
        assert (wanted["actor"], wanted["action"], wanted["content"]["to"]) == ("ada", "message.send", "bob")
        forged = base64.b64encode(bytes(64)).decode()
        for said, says in (
            ({"key": "x"}, "federation/sign.key"),
            ({"statements": [{"statement": "{}", "signature": forged}]}, "one is none"),
            ({"statements": [{"statement": "{}", "signature": "x"}]}, "64 bytes in base64"),
            ({"statements": 5}, "federation/sign.statements"),
            ({"more": 5}, "federation/sign.more"),
        ):
            refused = await ada.call_tool_mcp("federation_send", send, meta={SIGN: said})
            assert refused.is_error
            assert says in refused.content[0].text
    assert stated(database) == []
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)


async def test_a_front_door_that_asks_for_something_else_gets_no_signature(folder: Path) -> None:
    config = Settings(data_dir=folder)
    hello = {"content": "hello", "to": "bob", "message_id": "m", "conversation_id": "project"}
    content = {"conversation_id": "project", "to": "bob", "audience": None, "message_type": "chat", "reply_to": None, "body_sha256": None}
    content["content_sha256"] = sha256(b"hello").hexdigest()
    good = {"actor": "ada", "action": "message.send", "choice": "send", "content": content}
    good["subject"] = f"message:{named_id('message', 'project', 'ada', 'm')}"
    as_lead = good | {"actor": "lead1", "subject": f"message:{named_id('message', 'project', 'lead1', 'm')}"}
    for asks, says in (
        (good | {"content": content | {"to": "eve"}}, "asks to sign to 'eve', and the call says 'bob'"),
        (good | {"action": "task.decide"}, "asks to sign action 'task.decide', which is none of federation_send"),
        (
            good | {"content": content | {"message_type": "action"}},
            "asks to sign message_type 'action', and the call says 'chat'. Nothing was signed",
        ),
        (as_lead, "asks ada to sign as 'lead1'. Nothing was signed, and nothing done.*--as"),
        ({"actor": "ada"}, "in a form that this version does not know"),
    ):
        with answering(200, {"content": [], "isError": True, "_meta": {WANTED: asks}}) as url, pytest.raises(PermanentError, match=says):
            await FrontDoor(url, "fed_x", "ada", ssl.create_default_context(), config).call("federation_send", hello)
    # No key was made for what is not signed.
    assert not (folder / "keys").exists()
    with (
        answering(200, {"content": [], "isError": True, "_meta": {WANTED: good}}) as url,
        pytest.raises(PermanentError, match=r"more than 3 signatures of one call.* 3 statements of the call were signed"),
    ):
        await FrontDoor(url, "fed_x", "ada", ssl.create_default_context(), config).call("federation_send", hello)
    assert sorted(file.name for file in (folder / "keys").iterdir() if file.suffixes == [".pem"]) == ["agent-ada.pem"]
    asks = {"content": [], "isError": True, "_meta": {WANTED: good}}
    with answering(200, asks, asks, {"content": [], "isError": False}) as url:
        answer = await FrontDoor(url, "fed_x", "ada", ssl.create_default_context(), config).call("federation_send", hello)
    [told] = [part.text for part in answer.content if isinstance(part, mcp_types.TextContent)]
    assert told.startswith("2 statements of this call were signed")
    # It gets a name once.
    unnamed = {"conversation_id": "commons", "description": "Look", "designated": "analyst", "terms": {}}
    asks = good | {"action": "role.assign", "choice": "assign", "subject": "task:0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a11", "content": unnamed}
    with answering(200, {"content": [], "isError": True, "_meta": {WANTED: asks}}) as url, pytest.raises(Refused, match="asks to sign subject"):
        await FrontDoor(url, "fed_x", "ada", ssl.create_default_context(), config).call(
            "federation_assign_role", {"agent": "bob", "role": "analyst", "subtask": "Look"}
        )


async def test_no_front_door_has_a_call_signed_with_the_key_of_another_agent_of_the_folder(folder: Path) -> None:
    config = Settings(data_dir=folder)
    theirs = own_key(agent_key_file(config, "lead1"))
    content = {"description": "Drop the tables", "reason": "", "terms": {}}
    task = "0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a11"
    asks = {"actor": "lead1", "action": "task.decide", "choice": "approve", "subject": f"task:{task}", "content": content}
    with answering(200, {"content": [], "isError": True, "_meta": {WANTED: asks}}) as url:
        door = FrontDoor(url, "fed_x", "ada", ssl.create_default_context(), config)
        with pytest.raises(PermanentError, match=r"asks ada to sign as 'lead1'\. Nothing was signed"):
            await door.call("federation_approve", {"task_id": task, "decision": "approve"})
    assert door.said is None
    assert load(agent_key_file(config, "lead1")).public == theirs.public
    assert not agent_key_file(config, "ada").exists()


def test_whose_token_it_is_must_be_said(folder: Path) -> None:
    for more, says in (((), "--as NAME; `federation agent config NAME --sign` prints it"), (("--as", "a:b"), "'a:b'"), (("--as", "any"), "'any'")):
        for arguments in (
            command("http://127.0.0.1:9", *more),
            [*command("http://127.0.0.1:9", *more)[:2], "vote", "auth", "--url", "http://127.0.0.1:9/mcp", *more],
        ):
            done = subprocess.run(
                [sys.executable, *arguments], cwd=folder, env=os.environ | environment(folder, "fed_x"), capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
            assert says in done.stderr
    assert not (folder / "keys").exists()


def started(url: str, folder: Path, token: str = "fed_x", *more: str) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *command(url, "--as", "ada", *more)],
        cwd=folder,
        env=os.environ | environment(folder, token),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )


def ended(process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
    """What it said before it ended, with its client still there."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.wait(timeout=120)
    with process.stdin, process.stdout, process.stderr:
        return process.stdout.read(), process.stderr.read()


def test_a_front_door_that_does_not_take_us_is_told_in_one_line(house: Any, folder: Path) -> None:
    with answering(503) as busy:
        for url, code, says in (
            ("http://127.0.0.1:9", 69, "http://127.0.0.1:9/mcp does not answer (All connection attempts failed)"),
            (house.url, 1, "does not take the token in FEDERATION_TOKEN"),
            (f"{house.url}/other", 2, "the URL ends with /mcp"),
            (busy, 69, "answers 503; call again"),
            ("nonsense", 2, "--url: got 'nonsense/mcp', wants the URL of a front door"),
        ):
            process = started(url, folder)
            out, err = ended(process)
            assert (process.returncode, out) == (code, b""), err
            assert says in err.decode()
            assert err.count(b"\n") == 1


def test_a_certificate_is_trusted_when_its_authority_is_named(folder: Path, tmp_path: Path) -> None:
    made = Certificates(tmp_path / "tls")
    made.make([])
    with answering(503, certificates=made) as url:
        for more, code, says in (
            ((), 2, "is not trusted (unable to get local issuer certificate); name the authority that signed it"),
            (("--ca", str(made.authority)), 69, "answers 503; call again"),
            (("--ca", str(folder)), 2, "copy the ca.pem"),
        ):
            process = started(url, folder, "fed_x", *more)
            _, err = ended(process)
            assert (process.returncode, err.count(b"\n")) == (code, 1), err
            assert says in err.decode()


async def test_it_ends_with_its_client_and_when_it_is_told_to(house: Any, folder: Path) -> None:
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
    hello |= {"params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}}
    wait = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "federation_inbox", "arguments": {"wait_s": 600}}}
    for number, end in enumerate(("close", "terminate"), start=1):
        process = started(house.url, folder, house.tokens["ada"])
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(hello).encode() + b"\n")
        process.stdin.flush()
        assert b"instructions" in await asyncio.to_thread(process.stdout.readline)
        process.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n' + json.dumps(wait).encode() + b"\n")
        process.stdin.flush()
        await house.heard("inbox:ada")
        if end == "close":
            process.stdin.close()
        else:
            process.terminate()
        assert await asyncio.to_thread(process.wait, 60) in {0, -signal.SIGTERM}, number
        async with asyncio.timeout(60):
            while any(key == "inbox:ada" for _, key in house.door.notifications._subscriptions):
                await asyncio.sleep(0.05)
