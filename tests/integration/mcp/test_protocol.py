"""What goes over the wire: both eras, tokens, foreign hosts, and a database that is away."""

import asyncio
import json
import re
import sys
from typing import Any

import httpx2
import jsonschema
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import ToolError
from sqlalchemy import event, select

from federation.mcp import callers
from federation.mcp.catalogue import CORE, TOOLS
from federation.services import agents
from federation.store.models.conversations import Message

pytestmark = pytest.mark.anyio
ACCEPT = {"Accept": "application/json, text/event-stream"}


def answer(response: httpx2.Response) -> dict[str, Any]:
    """Return the JSON-RPC answer of a response, be it a document or a stream of events."""
    if response.headers["content-type"].startswith("text/event-stream"):
        (line,) = [line for line in response.text.splitlines() if line.startswith("data: ")]
        return json.loads(line.removeprefix("data: "))
    return response.json()


async def test_older_handshake_lists_and_calls_tools(house: Any) -> None:
    async with httpx2.AsyncClient(headers=ACCEPT | {"Authorization": f"Bearer {house.tokens['ada']}"}) as http:

        async def ask(method: str, params: dict[str, Any], number: int) -> dict[str, Any]:
            response = await http.post(f"{house.url}/mcp", json={"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            assert response.status_code == 200, response.text
            return answer(response)["result"]

        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}
        server = await ask("initialize", hello, 1)
        assert (server["protocolVersion"], server["serverInfo"]["name"]) == ("2025-06-18", "federation")
        http.headers["mcp-protocol-version"] = "2025-06-18"
        ready = await http.post(f"{house.url}/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert ready.status_code == 202
        listed = await ask("tools/list", {}, 2)
        assert [tool["name"] for tool in listed["tools"]] == [tool.__name__ for tool, _, _ in TOOLS]
        called = await ask("tools/call", {"name": "federation_send", "arguments": {"content": "from an old client"}}, 3)
        assert called["structuredContent"]["recipients"] == ["bob", "dan", "eve"]


async def test_each_tool_says_what_it_does_what_it_wants_and_what_it_returns(house: Any) -> None:
    async with house.client("ada", mode="2026-07-28") as ada:
        tools = await ada.list_tools()
    assert len(tools) == len(TOOLS)
    for tool in tools:
        assert tool.description
        assert tool.annotations is not None
        for hint in ("read_only_hint", "destructive_hint", "idempotent_hint", "open_world_hint"):
            assert getattr(tool.annotations, hint) is not None, f"{tool.name} leaves {hint} open"
        assert tool.output_schema is not None
        for name, schema in tool.input_schema["properties"].items():
            assert schema.get("description"), f"{tool.name} does not describe {name}"
            assert name not in tool.input_schema.get("required", ()) or schema.get("examples"), f"{tool.name} gives no example of {name}"
            for example in schema.get("examples", ()):
                jsonschema.validate(example, schema)
        assert "call" not in tool.input_schema["properties"]


async def test_all_tools_are_described_in_few_words_and_a_front_door_may_offer_fewer(house: Any, serve: Any) -> None:
    async with house.client("ada") as ada:
        everything = {tool.name: tool.description for tool in await ada.list_tools()}
        assert "federation_consensus_acknowledge" in ada.instructions
    assert sum(map(len, everything.values())) < 12_000
    with serve(house.transactions, house.database_url, house.tokens, tools="core") as small:
        async with small.client("ada") as ada:
            offered = {tool.name for tool in await ada.list_tools()}
            instructions = ada.instructions
            assert offered == {tool.__name__ for tool in CORE} < everything.keys()
            assert set(re.findall(r"federation_\w+", instructions)) <= offered
            assert "federation_pulse" in instructions
            said = await ada.call_tool("federation_send", {"content": "hello"})
            assert said.structured_content["recipients"] == ["bob", "dan", "eve"]
            refused = await ada.call_tool("federation_summarize", raise_on_error=False)
            assert (refused.is_error, "federation_summarize" in refused.content[0].text) == (True, True)


async def test_no_or_wrong_token_is_refused_without_detail(house: Any) -> None:
    async with httpx2.AsyncClient() as http:
        for headers in ({}, {"Authorization": "Bearer fed_wrong"}, {"Authorization": "Basic YTpi"}, {"X-Agent": "ada"}):
            response = await http.post(f"{house.url}/mcp", headers=ACCEPT | headers, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
            assert (response.status_code, response.text, response.headers["www-authenticate"]) == (401, "", "Bearer")


async def test_a_header_or_an_argument_that_names_another_sender_is_refused(house: Any) -> None:
    async with house.client("bob") as bob:
        for argument in ("sender", "agent", "actor", "from"):
            with pytest.raises(ToolError, match=f"no argument '{argument}'"):
                await bob.call_tool("federation_send", {"content": "x", argument: "ada"})
    # By a rule: of these only three are well known.
    for header in ("X-Agent", "x-sender", "X-Forwarded-User", "federation-agent-id", "X-Auth-Request-Preferred-Username", "x-on-behalf-of"):
        for name, refused in (("ada", True), ("bob", False)):
            transport = StreamableHttpTransport(f"{house.url}/mcp", auth=house.tokens["bob"], headers={header: name})
            async with Client(transport) as bob:
                told = await bob.call_tool("federation_send", {"content": "x", "to": "dan"}, raise_on_error=False)
            assert told.is_error is refused
            assert not refused or "Who calls is known from the token alone: header" in told.content[0].text
    # Twice the same header: neither may hide behind the other.
    async with httpx2.AsyncClient(headers=ACCEPT | {"Authorization": f"Bearer {house.tokens['bob']}", "mcp-protocol-version": "2025-06-18"}) as http:
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "federation_send", "arguments": {"content": "x"}}}
        for names, refused in ((("ada", "bob"), True), (("bob", "ada"), True), (("bob", "bob"), False)):
            told = await http.post(f"{house.url}/mcp", json=asked, headers=[("x-agent", name) for name in names])
            assert answer(told)["result"]["isError"] is refused, told.text
    with house.transactions.begin("test:hand") as session:
        assert {*session.scalars(select(Message.sender))} == {"bob"}


async def test_what_a_proxy_says_of_the_way_a_request_came_is_nobodys_name(house: Any) -> None:
    way = {"X-Forwarded-For": "10.0.0.9", "X-Forwarded-Proto": "http", "X-Real-IP": "10.0.0.9", "Forwarded": "for=10.0.0.9", "Via": "1.1 relay"}
    program = {"X-Request-ID": "7", "Sec-Fetch-User": "?1", "X-User-Agent": "cline/3"}
    transport = StreamableHttpTransport(f"{house.url}/mcp", auth=house.tokens["bob"], headers=way | program)
    async with Client(transport) as bob:
        assert (await bob.call_tool("federation_send", {"content": "x"})).structured_content["recipients"] == ["ada", "dan", "eve"]


async def test_revoked_token_dies_soon(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "REMEMBER_S", 0.0)
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with httpx2.AsyncClient(headers=ACCEPT | {"Authorization": f"Bearer {house.tokens['bob']}"}) as http:
        assert (await http.post(f"{house.url}/mcp", json=listing)).status_code == 200
        with house.transactions.begin("test:hand") as session:
            agents.revoke(session, "bob")
        assert (await http.post(f"{house.url}/mcp", json=listing)).status_code == 401


async def test_all_tokens_in_use_are_looked_up_together(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    asked: list[int] = []
    engine = house.transactions.service
    async with httpx2.AsyncClient(headers=ACCEPT) as http:

        async def call(name: str) -> int:
            return (await http.post(f"{house.url}/mcp", json=listing, headers={"Authorization": f"Bearer {house.tokens[name]}"})).status_code

        # The first call is looked up, and the second tells that it goes on.
        monkeypatch.setattr(callers, "REMEMBER_S", 600.0)
        for name in ("ada", "bob", "dan") * 2:
            assert await call(name) == 200

        @event.listens_for(engine, "before_cursor_execute")
        def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
            if "agent_tokens" in statement:
                asked.append(len(parameters["digests"]))

        try:
            monkeypatch.setattr(callers, "REMEMBER_S", 0.0)
            assert await call("ada") == 200
        finally:
            event.remove(engine, "before_cursor_execute", note)
    assert asked[0] == 3


async def test_revoked_token_wakes_up_to_nothing(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "REMEMBER_S", 0.0)
    async with house.client("ada") as ada, house.client("bob") as bob:
        waiting = asyncio.create_task(bob.call_tool("federation_inbox", {"wait_s": 120}, raise_on_error=False))
        await house.heard("inbox:bob")
        with house.transactions.begin("test:hand") as session:
            agents.revoke(session, "bob")
        await ada.call_tool("federation_send", {"content": "for bob only", "to": "bob"})
        told = await waiting
    assert told.is_error
    assert "for bob only" not in str(told.content)


async def test_foreign_hosts_and_origins_are_turned_away(house: Any) -> None:
    known = ACCEPT | {"Authorization": f"Bearer {house.tokens['ada']}"}
    async with httpx2.AsyncClient() as http:
        for more, status in (({"Host": "evil.example"}, 421), ({"Origin": "https://evil.example"}, 403)):
            response = await http.post(f"{house.url}/mcp", headers=known | more, json={})
            assert response.status_code == status


async def test_dead_database_is_told_and_the_door_goes_on_by_itself(house: Any, postgres: Any) -> None:
    async with house.client("ada", mode="2026-07-28") as ada, httpx2.AsyncClient() as http:
        await ada.call_tool("federation_pulse")
        assert (await http.get(f"{house.url}/health")).json() == {"status": "ok"}
        postgres.kill()
        try:
            told = await ada.call_tool("federation_pulse", raise_on_error=False)
            assert told.is_error
            assert "PostgreSQL does not answer" in told.content[0].text
            assert "again" in told.content[0].text
            assert (await http.get(f"{house.url}/health")).status_code == 503
            headers = ACCEPT | {"Authorization": "Bearer fed_never_seen"}
            assert (await http.post(f"{house.url}/mcp", headers=headers, json={})).status_code == 503
        finally:
            postgres.start()
        assert (await ada.call_tool("federation_pulse")).data.rows
        assert (await http.get(f"{house.url}/health")).status_code == 200


async def test_stdio_takes_the_identity_from_the_environment(house: Any, tmp_path: Any) -> None:
    environment = {
        "FEDERATION_DATA_DIR": str(tmp_path),
        "FEDERATION_DATABASE_URL": house.database_url,
        "FEDERATION_DATABASE_SERVICE_URL": house.transactions.service.url.render_as_string(hide_password=False).replace("+psycopg", ""),
        "FEDERATION_BROKER_URL": "activemq://nobody@127.0.0.1:9/",
        "FEDERATION_TOKEN": house.tokens["eve"],
    }
    transport = StdioTransport(sys.executable, ["-m", "federation.cli.main", "mcp"], env=environment, cwd=str(tmp_path))
    async with Client(transport) as eve:
        assert (await eve.call_tool("federation_update_state", {"summary": "over a pipe"})).data.agent == "eve"
