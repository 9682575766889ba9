"""A call of a client that begins with a handshake is one request and its answer: JSON if it is quick, else a stream in which it is waited for."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest

from federation.mcp import door, exchange

pytestmark = pytest.mark.anyio
REVISION = "2025-06-18"


@pytest.fixture
async def http(house: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Whatever ada's client sends."""
    headers = {
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {house.tokens['ada']}",
        "MCP-Protocol-Version": REVISION,
    }
    async with httpx2.AsyncClient(base_url=house.url, headers=headers, timeout=60) as client:
        yield client


def asked(method: str, params: dict[str, Any], number: int | str = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def called(tool: str, arguments: dict[str, Any], number: int | str = 1, **meta: Any) -> dict[str, Any]:
    return asked("tools/call", {"name": tool, "arguments": arguments} | ({"_meta": meta} if meta else {}), number)


def inbox(wait_s: float) -> dict[str, Any]:
    return {"wait_s": wait_s}


async def test_quick_call_is_answered_in_json_under_its_own_id(http: httpx2.AsyncClient) -> None:
    for number in (7, "seven"):
        response = await http.post("/mcp", json=called("federation_pulse", {}, number))
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        answer = response.json()
        assert (answer["jsonrpc"], answer["id"], answer["result"]["isError"]) == ("2.0", number, False)
        assert answer["result"]["structuredContent"]["cursor"] is not None


HELLO = {"protocolVersion": REVISION, "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}
ASKED = {
    "initialize": asked("initialize", HELLO),
    "ping": asked("ping", {}),
    "tools": asked("tools/list", {}),
    "prompts": asked("prompts/list", {}),
    "the charter": asked("resources/read", {"uri": "federation://charter"}),
    "a method that is unknown": asked("no/such", {}),
    "a tool that is unknown": called("no_such", {}),
    "a name that is none": asked("tools/call", {"name": 3}),
    "an argument that does not fit": called("federation_send", {"content": 3}),
    "what is refused": called("federation_send", {"content": "to nobody", "to": "zoe"}),
    "what is answered": called("federation_claims", {}),
}


@pytest.mark.parametrize("what", ASKED)
async def test_what_the_library_would_answer_is_answered(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    ours = await http.post("/mcp", json=ASKED[what])
    assert (ours.status_code, ours.headers["content-type"]) == (200, "application/json")
    monkeypatch.setattr(exchange, "_takes_either", lambda _: False)
    theirs = await http.post("/mcp", json=ASKED[what])
    (told,) = [line.removeprefix("data: ") for line in theirs.text.splitlines() if line.startswith("data: ")]
    assert (theirs.status_code, json.loads(told)) == (200, ours.json())


async def test_what_wants_no_answer_gets_none(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})).status_code == 202


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', {}, 400),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', {}, 202),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}', {"Accept": "application/json"}, 406),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}', {"Content-Type": "text/plain"}, 400),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}', {"Authorization": "Bearer fed_nobody"}, 401),
        (b" " * 5_000_000, {}, 413),
    ],
)
async def test_what_is_no_plain_request_goes_the_librarys_way(http: httpx2.AsyncClient, body: bytes, headers: dict[str, str], status: int) -> None:
    response = await http.post("/mcp", content=body, headers={"Content-Type": "application/json"} | headers)
    assert response.status_code == status, response.text


async def test_who_waits_hears_that_he_is_not_forgotten_and_then_the_answer(
    house: Any, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "PING_S", 0.1)
    async with http.stream("POST", "/mcp", json=called("federation_inbox", inbox(50), 2)) as response:
        assert response.headers["content-type"] == "text/event-stream"
        heard = response.aiter_lines()
        assert {line for line in [await anext(heard) for _ in range(4)] if line} == {": ping"}
        async with house.client("bob") as bob:
            await bob.call_tool("federation_send", {"content": "there it is", "to": "ada"})
        events = [line.removeprefix("data: ") async for line in heard if line.startswith("data: ")]
    (answer,) = map(json.loads, events)
    assert (answer["id"], answer["result"]["structuredContent"]["messages"][0]["content"]) == (2, "there it is")


async def test_progress_comes_before_the_answer_to_who_asks_for_it(house: Any, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PROGRESS_S", 0.05)
    async with http.stream("POST", "/mcp", json=called("federation_inbox", inbox(0.2), 3, progressToken="mine")) as response:
        told = [json.loads(line.removeprefix("data: ")) async for line in response.aiter_lines() if line.startswith("data: ")]
    *progress, answer = told
    assert progress
    assert {(each["method"], each["params"]["progressToken"], each["params"]["message"]) for each in progress} == {
        ("notifications/progress", "mine", "waiting for a message")
    }
    assert (answer["id"], answer["result"]["structuredContent"]["messages"]) == (3, [])
    # Who does not ask hears nothing but the answer.
    quiet = await http.post("/mcp", json=called("federation_inbox", inbox(0.2), 4))
    assert (quiet.headers["content-type"], quiet.json()["id"]) == ("application/json", 4)


async def test_nobody_waits_any_more_for_who_has_gone(house: Any, http: httpx2.AsyncClient) -> None:
    waiting = asyncio.create_task(http.post("/mcp", json=called("federation_inbox", inbox(600))))
    await house.heard("inbox:ada")
    waiting.cancel()
    async with asyncio.timeout(60):
        while any(key == "inbox:ada" for _, key in house.door.notifications._subscriptions):
            await asyncio.sleep(0.01)
    # What she does next is done.
    assert (await http.post("/mcp", json=called("federation_inbox", {}))).json()["result"]["isError"] is False


@pytest.mark.parametrize("streams", [False, True])
async def test_who_waits_when_the_door_closes_is_sent_away(
    postgres: Any, database: str, transactions: Any, tokens: dict[str, str], serve: Any, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    monkeypatch.setattr(exchange, "PING_S", 0.05 if streams else 60)
    with ExitStack() as stack:
        house = stack.enter_context(serve(transactions, postgres.as_role("federation_app", database), tokens))
        headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {tokens['ada']}", "MCP-Protocol-Version": REVISION}
        async with (
            httpx2.AsyncClient(base_url=house.url, headers=headers, timeout=60) as http,
            http.stream("POST", "/mcp", json=called("federation_inbox", inbox(600))) if streams else _later(http) as waiting,
        ):
            await house.heard("inbox:ada")
            closing = asyncio.create_task(asyncio.to_thread(stack.close))
            response = waiting if streams else await waiting
            told = (await response.aread()).decode()
            await closing
    if streams:
        assert (response.status_code, "data:" in told) == (200, False)
    else:
        assert (response.status_code, response.json()) == (503, {"error": "the front door closes; call again"})


@asynccontextmanager
async def _later(http: httpx2.AsyncClient) -> AsyncIterator[asyncio.Task[httpx2.Response]]:
    yield asyncio.create_task(http.post("/mcp", json=called("federation_inbox", inbox(600))))
