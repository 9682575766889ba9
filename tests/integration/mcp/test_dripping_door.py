"""A front door that answers without end, too much, or with a question to the client: it is told so in one line, and nothing waits for it."""

import asyncio
import gzip
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError

from federation.errors import PermanentError
from federation.settings import Settings
from federation.stub.bounds import LONGEST_BYTES
from federation.stub.door import DoorUnavailable, FrontDoor
from tests.integration.mcp.lying import answering, asking, lying, result, send

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
EVENTS = "text/event-stream"
QUESTIONS = {
    "resultType": "input_required",
    "requestState": "x",
    "inputRequests": {
        "r": {"method": "roots/list"},
        "e": {
            "method": "elicitation/create",
            "params": {"mode": "form", "message": "Your token?", "requestedSchema": {"type": "object", "properties": {"t": {"type": "string"}}}},
        },
    },
}


def door(url: str, folder: Path, **more: Any) -> FrontDoor:
    return FrontDoor(f"{url}/mcp", "fed_x", "ada", ssl.create_default_context(), Settings(data_dir=folder), **more)


def command(url: str) -> list[str]:
    return ["-m", "federation.cli.main", "mcp", "--url", f"{url}/mcp", "--as", "ada"]


def given(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "FEDERATION_DATA_DIR": str(folder), "FEDERATION_TOKEN": "fed_x", "PYTHONPATH": str(ROOT)}


def offer(one: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
    """Say what there is."""
    cached = {"ttlMs": 0, "cacheScope": "private"}
    what, _, is_list = asked["method"].partition("/")
    lists: dict[str, list[dict[str, Any]]] = {
        "tools": [{"name": "federation_pulse", "inputSchema": {"type": "object"}}],
        "resources": [{"uri": "x://y", "name": "y"}],
        "prompts": [{"name": "charter"}],
    }
    if is_list == "list":
        send(one, result(asked, {what: lists[what]} | cached))
    elif asked["method"] == "resources/templates/list":
        send(one, result(asked, {"resourceTemplates": []} | cached))
    else:
        capabilities: dict[str, Any] = {name: {} for name in lists}
        told = {"serverInfo": {"name": "x", "version": "1"}, "capabilities": capabilities, "supportedVersions": ["2026-07-28"]}
        send(one, result(asked, told | cached))


def drip(part: bytes, kind: str) -> Any:
    def answer(one: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        one.send_response(200)
        one.send_header("content-type", kind)
        one.end_headers()
        while True:
            one.wfile.write(part)
            one.wfile.flush()
            time.sleep(0.1)

    return answer


@pytest.mark.parametrize(("part", "kind"), [(b": hi\n\n", EVENTS), (b"event: other\ndata: x\n\n", EVENTS), (b" ", "application/json")])
async def test_an_answer_that_only_drips_is_waited_for_no_longer_than_one_that_is_silent(tmp_path: Path, part: bytes, kind: str) -> None:
    with lying(drip(part, kind)) as url:
        for call in (door(url, tmp_path, silent_s=1.0).call("federation_pulse", {}), door(url, tmp_path, silent_s=1.0).tools()):
            async with asyncio.timeout(60):
                with pytest.raises(DoorUnavailable, match="has told of no progress for 1 s"):
                    await call


async def test_an_answer_that_tells_of_progress_is_waited_for(tmp_path: Path) -> None:
    def answer(one: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        one.send_response(200)
        one.send_header("content-type", EVENTS)
        one.end_headers()
        for number in range(35):
            time.sleep(0.2)
            told = {"progressToken": asked["params"]["_meta"]["progressToken"], "progress": number}
            said = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": told}).encode()
            one.wfile.write(b"event: message\ndata: " + said + b"\n\n")
            one.wfile.flush()
        one.wfile.write(b"event: message\ndata: " + result(asked, {"content": [], "isError": False}) + b"\n\n")

    with lying(answer) as url:
        assert not (await door(url, tmp_path, silent_s=5.0).call("federation_pulse", {})).is_error


async def test_an_answer_is_no_longer_than_it_may_be_and_is_not_packed(tmp_path: Path) -> None:
    long = b" " * (LONGEST_BYTES + 1)
    for headers, body, says in (({}, long, "longer than 16777216 bytes"), ({"content_encoding": "gzip"}, gzip.compress(long), "is compressed")):
        with lying(lambda one, asked, body=body, headers=headers: send(one, body, **headers)) as url:
            async with asyncio.timeout(60):
                with pytest.raises(DoorUnavailable, match=says):
                    await door(url, tmp_path).call("federation_pulse", {})


async def test_what_cannot_be_signed_is_told_in_one_line(tmp_path: Path) -> None:
    about = {"description": "", "reason": "", "terms": {"n": 2**60}}
    for asks in (asking("ada", "task.decide", "approve", "task:x", about), asking("ada", "task.decide", "0" * 300, "task:x", about)):
        with answering(200, asks) as url, pytest.raises(PermanentError, match="Nothing was signed") as told:
            await door(url, tmp_path).call("federation_approve", {"task_id": "x", "decision": "approve"})
        assert "\n" not in str(told.value)


async def test_the_client_is_asked_for_nothing(tmp_path: Path) -> None:
    asked_of_the_client: list[str] = []
    sent: list[dict[str, Any]] = []

    async def roots(context: Any) -> list[str]:
        asked_of_the_client.append("roots")
        return ["file:///home/secret"]

    async def elicit(*given: Any) -> Any:
        asked_of_the_client.append("elicitation")
        return {"t": "secret"}

    def answer(one: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        sent.append(asked)
        method = asked["method"]
        if method in {"tools/call", "resources/read", "prompts/get"}:
            send(one, result(asked, QUESTIONS))
            return
        offer(one, asked)

    with lying(answer) as url:
        for mode in ("legacy", "auto"):
            transport = StdioTransport(sys.executable, command(url), env=given(tmp_path), cwd=str(tmp_path), log_file=tmp_path / "log")
            async with Client(transport, roots=roots, elicitation_handler=elicit, mode=mode) as ada:
                for call in (ada.call_tool("federation_pulse", {}), ada.read_resource("x://y"), ada.get_prompt("charter")):
                    with pytest.raises((ToolError, MCPError, RuntimeError)):
                        await call
    assert {one["method"] for one in sent} >= {"tools/call", "resources/read", "prompts/get"}
    assert asked_of_the_client == []
    assert "secret" not in json.dumps(sent)


def test_what_is_no_answer_at_all_is_told_in_one_line(tmp_path: Path) -> None:
    with lying(lambda one, asked: send(one, b"{")) as url:
        arguments = ["-m", "federation.cli.main", "vote", "auth", "--url", f"{url}/mcp", "--as", "ada"]
        said = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=given(tmp_path), capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (1, "", 1), said.stderr


HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
CALLS: list[dict[str, Any]] = [
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "federation_pulse", "arguments": {}}},
]


@pytest.mark.parametrize("end", ["close", "terminate"])
@pytest.mark.parametrize("hangs", ["its start", "a call"])
def test_it_ends_with_its_client_while_a_front_door_drips(tmp_path: Path, hangs: str, end: str) -> None:
    asked_for = Event()

    def answer(one: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        if hangs == "its start" or asked["method"] == "tools/call":
            asked_for.set()
            drip(b": hi\n\n", EVENTS)(one, asked)
        offer(one, asked)

    pipe = subprocess.PIPE
    with lying(answer) as url:
        process = subprocess.Popen([sys.executable, *command(url)], cwd=tmp_path, env=given(tmp_path), stdin=pipe, stdout=pipe, stderr=pipe)
        assert process.stdin is not None
        for call in CALLS:
            process.stdin.write(json.dumps(call).encode() + b"\n")
            process.stdin.flush()
        assert asked_for.wait(120)
        if end == "close":
            process.stdin.close()
        else:
            process.terminate()
        # The front door's own limit is five minutes.
        assert process.wait(timeout=120) in {0, -signal.SIGTERM}
