"""A client of A2A that knows nothing of the federation: it reads the card, hands in a task, and reads what came of it."""

import asyncio
import itertools
import json
import re
import uuid
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest

from federation.a2a import rpc, tasks
from federation.a2a.errors import Code
from federation.services import agents, task_claims
from federation.store.models.tasks import TaskType

pytestmark = pytest.mark.anyio
VERSION = {"A2A-Version": "1.0"}
NUMBERS = itertools.count(1)


@cache
def schema() -> dict[str, Any]:
    """Return the messages of A2A, as JSON has them."""
    return json.loads((Path(__file__).parent / "a2a-1.0.json").read_text())


def require(kind: str, given: Any) -> None:
    """Pass if this is a message of A2A of that kind, whole and with nothing else."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator({**schema(), "$ref": f"#/$defs/{kind}"}, format_checker=checker).validate(given)


def message(*parts: Any, **more: Any) -> dict[str, Any]:
    return {
        "messageId": str(uuid.uuid4()),
        "role": "ROLE_USER",
        "parts": [{"text": each} if isinstance(each, str) else each for each in parts],
        **more,
    }


def taken(house: Any, task_id: str) -> int:
    """Have bob claim a task, and return his token."""
    with house.transactions.begin("bob") as session:
        token = task_claims.claim(session, task_id, description="", ttl_s=60).fencing_token
    assert token is not None
    return token


class Client:
    """Speaks A2A by the card alone, as whoever has the token."""

    def __init__(self, http: httpx2.AsyncClient, house: Any) -> None:
        self.http, self.house = http, house

    async def post(self, content: Any, *, agent: str | None = "ada", headers: dict[str, str] = VERSION) -> httpx2.Response:
        card = (await self.http.get(f"{self.house.url}/.well-known/agent-card.json")).json()
        [where] = [each["url"] for each in card["supportedInterfaces"] if each["protocolBinding"] == "JSONRPC"]
        mine = {"Authorization": f"Bearer {self.house.tokens[agent]}"} if agent else {}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self.http.post(where, content=body, headers={**headers, **mine, "Content-Type": "application/json"})

    async def ask(self, method: str, params: Any, **more: Any) -> dict[str, Any]:
        number = next(NUMBERS)
        answer = await self.post({"jsonrpc": "2.0", "id": number, "method": method, "params": params}, **more)
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] == number
        return answer.json()

    async def send(self, said: Any, **more: Any) -> dict[str, Any]:
        """Send a message, do not wait, and return the task."""
        told = await self.ask("SendMessage", {"message": said, "configuration": {"returnImmediately": True}}, **more)
        require("SendMessageResponse", told["result"])
        return told["result"]["task"]

    async def get(self, task_id: str, **more: Any) -> dict[str, Any]:
        task = (await self.ask("GetTask", {"id": task_id}, **more))["result"]
        require("Task", task)
        return task

    async def refused(self, method: str, params: Any, **more: Any) -> tuple[Code, str]:
        """Return the error of a request that must have one."""
        error = (await self.ask(method, params, **more))["error"]
        assert error["data"][0]["@type"].startswith("type.googleapis.com/google.rpc.")
        return Code(error["code"]), error["message"]


@pytest.fixture
async def outside(house: Any) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(timeout=120) as http:
        yield Client(http, house)


async def test_stranger_reads_the_card_and_learns_of_nobody(house: Any, outside: Client) -> None:
    where = f"{house.url}/.well-known/agent-card.json"
    told = await outside.http.get(where)
    card = told.json()
    require("AgentCard", card)
    assert card["supportedInterfaces"] == [{"url": f"{house.url}/a2a", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]
    assert [skill["id"] for skill in card["skills"]] == list(TaskType)
    assert not any(f'"{name}"' in told.text or f" {name} " in told.text for name in house.tokens)
    assert "max-age" in told.headers["cache-control"]
    again = await outside.http.get(where, headers={"If-None-Match": told.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_card_tells_the_public_address_where_there_is_one(transactions: Any, postgres: Any, database: str, tokens: Any, serve: Any) -> None:
    public = "https://federation.example/mcp"
    with serve(transactions, postgres.as_role("federation_app", database), tokens, mcp_url=public) as house:
        async with httpx2.AsyncClient() as http:
            card = (await http.get(f"{house.url}/.well-known/agent-card.json")).json()
    assert [each["url"] for each in card["supportedInterfaces"]] == ["https://federation.example/a2a"]


async def test_task_goes_through(house: Any, outside: Client) -> None:
    said = message(
        "Profile the memory of the auth module", {"data": {"module": "auth"}}, metadata={"federation": {"agent": "bob", "task_type": "analyze"}}
    )
    task = await outside.send(said)
    assert task["status"]["state"] == "TASK_STATE_SUBMITTED"
    async with house.client("bob") as bob:
        [seen] = [each for each in (await bob.call_tool("federation_inbox", {})).structured_content["messages"] if each["sender"] == "ada"]
        assert "Profile the memory of the auth module" in seen["content"]
        stands = (await bob.call_tool("federation_task_status", {"task_id": task["id"]})).structured_content
        assert (stands["created_by"], stands["terms"]["task_type"], stands["terms"]["parameters"]) == ("ada", "analyze", {"module": "auth"})
        token = taken(house, task["id"])
        assert (await outside.get(task["id"]))["status"]["state"] == "TASK_STATE_WORKING"
        await bob.call_tool("federation_complete_task", {"task_id": task["id"], "fencing_token": token, "result": {"leaks": 1, "text": "One leak."}})
    done = await outside.get(task["id"])
    assert (done["contextId"], done["status"]["state"]) == ("commons", "TASK_STATE_COMPLETED")
    [artifact] = done["artifacts"]
    assert [part.get("text", part.get("data")) for part in artifact["parts"]] == ["One leak.", {"leaks": 1, "text": "One leak."}]


async def test_request_that_the_page_shows_makes_the_task_that_it_says(house: Any, outside: Client) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "a2a.md").read_text()
    [request] = re.findall(r"```json\n(.*?)```", page, re.S)
    task = (await outside.post(request.encode())).json()["result"]["task"]
    async with house.client("bob") as bob:
        stands = (await bob.call_tool("federation_task_status", {"task_id": task["id"]})).structured_content
    assert stands["description"] == "Profile the memory of the auth module"
    assert {name: stands["terms"][name] for name in ("task_type", "parameters", "timeout_s")} == {
        "task_type": "analyze",
        "parameters": {"module": "auth"},
        "timeout_s": 3600,
    }


async def test_who_waits_is_answered_when_the_task_ends(house: Any, outside: Client) -> None:
    said = message("Look", metadata={"federation": {"agent": "bob"}})
    asking = asyncio.ensure_future(outside.ask("SendMessage", {"message": said}))
    async with house.client("bob") as bob:
        found: list[Any] = []
        while not found:
            found = (await bob.call_tool("federation_inbox", {"wait_s": 60})).structured_content["messages"]
        task_id = found[0]["data"]["task_id"]
        await house.heard(f"task:{task_id}")
        assert not asking.done()
        token = taken(house, task_id)
        await bob.call_tool("federation_complete_task", {"task_id": task_id, "fencing_token": token, "result": {"why": "no disk"}, "success": False})
    told = (await asking)["result"]
    require("SendMessageResponse", told)
    assert told["task"]["status"]["state"] == "TASK_STATE_FAILED"
    assert told["task"]["artifacts"][0]["parts"][0]["data"] == {"why": "no disk"}


async def test_message_that_comes_again_makes_no_other_task(outside: Client) -> None:
    said = message("Once")
    first = await outside.send(said)
    assert (await outside.send(said))["id"] == first["id"]
    code, why = await outside.refused("SendMessage", {"message": {**said, "parts": [{"text": "Something else"}]}})
    assert code is Code.INVALID_PARAMS
    assert "description differ" in why
    # Another client counts its messages in its own way.
    assert (await outside.send(said, agent="bob"))["id"] != first["id"]


async def test_context_is_a_conversation_that_strangers_do_not_see(outside: Client) -> None:
    task = await outside.send(message("Between us", contextId="project-123", metadata={"federation": {"capability": "profile"}}))
    assert task["contextId"] == "project-123"
    assert "Nobody in project-123 may claim it" in task["status"]["message"]["parts"][0]["text"]
    hidden = await outside.refused("GetTask", {"id": task["id"]}, agent="eve")
    absent = await outside.refused("GetTask", {"id": str(uuid.uuid4())}, agent="eve")
    assert hidden[0] is absent[0] is Code.TASK_NOT_FOUND
    assert (await outside.refused("CancelTask", {"id": task["id"]}, agent="eve"))[0] is Code.TASK_NOT_FOUND
    assert (await outside.refused("SendMessage", {"message": message("Me too", contextId="project-123")}, agent="eve"))[0] is Code.REFUSED


async def test_cancelled_and_rejected_tasks_are_told_apart(house: Any, outside: Client) -> None:
    unwanted = await outside.send(message("Not that"))
    cancelled = (await outside.ask("CancelTask", {"id": unwanted["id"]}))["result"]
    require("Task", cancelled)
    assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
    parked = await outside.send(message("Delete it", metadata={"federation": {"requires_approval": True}}), agent="bob")
    assert parked["status"]["state"] == "TASK_STATE_SUBMITTED"
    assert "approv" in parked["status"]["message"]["parts"][0]["text"]
    async with house.client("ada") as ada:
        await ada.call_tool("federation_approve", {"task_id": parked["id"], "decision": "reject", "reason": "Too early"})
    rejected = await outside.get(parked["id"], agent="bob")
    assert (rejected["status"]["state"], rejected["status"]["message"]["parts"][0]["text"]) == ("TASK_STATE_REJECTED", "Too early")
    assert "artifacts" not in rejected


async def test_whoever_offers_fewer_tools_to_models_serves_all_of_a2a(
    transactions: Any, postgres: Any, database: str, tokens: Any, serve: Any
) -> None:
    with serve(transactions, postgres.as_role("federation_app", database), tokens, tools="core") as house:
        async with httpx2.AsyncClient() as http:
            client = Client(http, house)
            task = await client.send(message("Not that"))
            assert (await client.ask("CancelTask", {"id": task["id"]}))["result"]["status"]["state"] == "TASK_STATE_CANCELED"


async def test_what_has_ended_is_not_cancelled(house: Any, outside: Client) -> None:
    task = await outside.send(message("Quick", metadata={"federation": {"agent": "bob"}}))
    async with house.client("bob") as bob:
        token = taken(house, task["id"])
        await bob.call_tool("federation_complete_task", {"task_id": task["id"], "fencing_token": token, "result": {}})
    assert (await outside.refused("CancelTask", {"id": task["id"]}))[0] is Code.TASK_NOT_CANCELABLE
    assert (await outside.get(task["id"]))["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_charter_holds_for_clients_of_a2a(house: Any, outside: Client) -> None:
    with house.transactions.begin("test:setup") as session:
        house.tokens["pat"] = agents.add(session, "pat", "developer")
    code, why = await outside.refused("SendMessage", {"message": message("Do it", metadata={"federation": {"agent": "bob"}})}, agent="pat")
    assert code is Code.REFUSED, why


@pytest.mark.parametrize("agent", [None, "nobody"])
async def test_without_a_valid_token_nothing_is_said_but_401(house: Any, outside: Client, agent: str | None) -> None:
    house.tokens["nobody"] = "fed_nothing"
    told = await outside.post({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message("x")}}, agent=agent)
    assert (told.status_code, told.content, told.headers["www-authenticate"]) == (401, b"", "Bearer")


@pytest.mark.parametrize(
    ("method", "params", "code", "words"),
    [
        ("SendMessage", None, Code.INVALID_PARAMS, "params"),
        ("SendMessage", {}, Code.INVALID_PARAMS, "message: Field required"),
        ("SendMessage", {"message": {"messageId": "", "role": "ROLE_USER", "parts": []}}, Code.INVALID_PARAMS, "message.parts"),
        ("SendMessage", {"message": message({"data": {"only": "data"}})}, Code.INVALID_PARAMS, "at least one text"),
        ("SendMessage", {"message": message("x", {"data": [1]})}, Code.INVALID_PARAMS, "message.parts.1"),
        ("SendMessage", {"message": message("x", {"data": {"a": 1}}, {"data": {"a": 2}})}, Code.INVALID_PARAMS, "message.parts.2"),
        ("SendMessage", {"message": message("x\0")}, Code.INVALID_PARAMS, "description"),
        ("SendMessage", {"message": message("\ud800")}, Code.INVALID_PARAMS, "description"),
        ("SendMessage", {"message": message("x", {"data": {"\ud800": 1}})}, Code.INVALID_PARAMS, "parameters"),
        ("SendMessage", {"message": message("x", {"data": {"n": float("nan")}})}, Code.INVALID_PARAMS, "parameters.n"),
        ("SendMessage", {"message": message({"text": "x", "data": {}})}, Code.INVALID_PARAMS, "message.parts.0"),
        ("SendMessage", {"message": message("x", {})}, Code.INVALID_PARAMS, "message.parts.1"),
        ("SendMessage", {"message": message("x", metadata={"federation": {"\ud800": 1}})}, Code.INVALID_PARAMS, ""),
        ("SendMessage", {"message": message("x", {"url": "https://elsewhere.example/x"})}, Code.CONTENT_TYPE_NOT_SUPPORTED, "message.parts.1"),
        ("SendMessage", {"message": message("x", {"raw": "AA=="})}, Code.CONTENT_TYPE_NOT_SUPPORTED, "message.parts.1"),
        ("SendMessage", {"message": message("x", contextId="a b")}, Code.INVALID_PARAMS, "conversation_id"),
        ("SendMessage", {"message": message("x", taskId=str(uuid.uuid4()))}, Code.TASK_NOT_FOUND, "no task"),
        ("SendMessage", {"message": message("x", metadata={"federation": 1})}, Code.INVALID_PARAMS, "wants an object"),
        ("SendMessage", {"message": message("x", metadata={"federation": {"task_id": "x"}})}, Code.INVALID_PARAMS, "no task_id"),
        ("SendMessage", {"message": message("x", metadata={"federation": {"agnet": "bob"}})}, Code.INVALID_PARAMS, "nearest: agent"),
        ("SendMessage", {"message": message("x", metadata={"federation": {"priority": 11}})}, Code.INVALID_PARAMS, "priority: got 11"),
        ("SendMessage", {"message": message("x", metadata={"federation": {"agent": "bbo"}})}, Code.INVALID_PARAMS, "nearest: bob"),
        (
            "SendMessage",
            {"message": message("x"), "configuration": {"taskPushNotificationConfig": {"url": "https://elsewhere.example"}}},
            Code.PUSH_NOTIFICATION_NOT_SUPPORTED,
            "GetTask",
        ),
        (
            "SendMessage",
            {"message": message("x"), "configuration": {"acceptedOutputModes": ["image/png"]}},
            Code.CONTENT_TYPE_NOT_SUPPORTED,
            "image/png",
        ),
        ("SendMessage", {"message": {**message("x"), "messageId": "\ud800"}}, Code.INVALID_PARAMS, "message.messageId"),
        ("GetTask", {"id": 7}, Code.INVALID_PARAMS, "id"),
        ("CancelTask", {"id": "nothing-like-it"}, Code.TASK_NOT_FOUND, "no task"),
        ("SendStreamingMessage", {}, Code.UNSUPPORTED_OPERATION, "SendMessage"),
        ("ListTasks", {}, Code.UNSUPPORTED_OPERATION, "SendMessage"),
        ("CreateTaskPushNotificationConfig", {}, Code.PUSH_NOTIFICATION_NOT_SUPPORTED, "GetTask"),
        ("ListTaskPushNotificationConfigs", {}, Code.PUSH_NOTIFICATION_NOT_SUPPORTED, "GetTask"),
        ("message/send", {}, Code.METHOD_NOT_FOUND, "SendMessage"),
    ],
)
async def test_bad_request_is_told_what_it_wants_and_makes_nothing(
    house: Any, outside: Client, method: str, params: Any, code: Code, words: str
) -> None:
    told = await outside.refused(method, params)
    assert told[0] is code
    assert words in told[1]
    with house.transactions.begin("test:look") as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM agent_tasks").scalar_one() == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", Code.PARSE_ERROR),
        (b"\xff", Code.PARSE_ERROR),
        (b"[" * 100_000, Code.PARSE_ERROR),
        (b"[]", Code.INVALID_REQUEST),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "GetTask"}', Code.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "method": "GetTask"}', Code.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": true, "method": "GetTask"}', Code.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 7}', Code.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "GetTask"}', Code.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": 1e999, "method": "GetTask"}', Code.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "GetTask"}', Code.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "\\ud800"}', Code.METHOD_NOT_FOUND),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "\\ud800"}}', Code.INVALID_PARAMS),
    ],
)
async def test_what_is_no_request_is_told_so(outside: Client, body: bytes, code: Code) -> None:
    told = await outside.post(body)
    assert told.status_code == 200
    assert Code(told.json()["error"]["code"]) is code


async def test_body_that_is_too_large_is_not_read(outside: Client) -> None:
    assert (await outside.post(b" " * (rpc.LARGEST + 1))).status_code == 413


@pytest.mark.parametrize(("said", "fits"), [("1.0", True), ("1.0.7", True), ("0.3", False), ("", False), ("2.0", False)])
async def test_version_is_that_of_the_card(outside: Client, said: str, fits: bool) -> None:
    asked = outside.ask("GetTask", {"id": str(uuid.uuid4())}, headers={"A2A-Version": said} if said else {})
    code = Code((await asked)["error"]["code"])
    assert code is (Code.TASK_NOT_FOUND if fits else Code.VERSION_NOT_SUPPORTED)


async def test_client_waits_no_longer_than_the_door_lets_it(outside: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "WAIT_S", 0.05)
    told = (await outside.ask("SendMessage", {"message": message("Nobody will")}))["result"]
    assert told["task"]["status"]["state"] == "TASK_STATE_SUBMITTED"
