"""A2A over JSON-RPC: who asks, in which version, for which method; one request a body. The card is there for everybody."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastmcp import FastMCP
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from federation.a2a.card import CARD, PATH, PROTOCOL, card
from federation.a2a.errors import Code, Failed
from federation.a2a.messages import OneTask, SendMessage, read
from federation.a2a.tasks import Tasks
from federation.errors import Refused, Unauthenticated
from federation.mcp.door import Door
from federation.mcp.where import PATH as MCP_PATH

# As much as a call of MCP.
LARGEST = 4 * 1024 * 1024
# What who asks may keep the card for.
KEEP_S = 3600
_PUSHES = "TaskPushNotificationConfig"
_NOT_DONE = frozenset({"SendStreamingMessage", "SubscribeToTask", "ListTasks", "GetExtendedAgentCard"})


def serve(server: FastMCP[None], door: Door) -> None:
    """Have a server answer clients of A2A too."""
    tasks = Tasks(door)

    async def send(params: object) -> dict[str, Any]:
        return await tasks.send(read(SendMessage, params))

    async def get(params: object) -> dict[str, Any]:
        return await tasks.get(read(OneTask, params))

    async def cancel(params: object) -> dict[str, Any]:
        return await tasks.cancel(read(OneTask, params))

    methods: dict[str, Callable[[object], Awaitable[dict[str, Any]]]] = {"SendMessage": send, "GetTask": get, "CancelTask": cancel}

    @server.custom_route(CARD, methods=["GET"])
    async def show(request: Request) -> Response:
        public = door.settings.mcp_url
        # Where it was asked it is reached, unless a proxy stands before it: then the setting says where.
        base = str(request.base_url).rstrip("/") if public is None else public.removesuffix(MCP_PATH)
        answer = JSONResponse(card(base))
        tag = f'"{hashlib.sha256(bytes(answer.body)).hexdigest()[:16]}"'
        if request.headers.get("if-none-match") == tag:
            answer = Response(status_code=304)  # type: ignore[assignment]
        answer.headers.update({"ETag": tag, "Cache-Control": f"max-age={KEEP_S}"})
        return answer

    @server.custom_route(PATH, methods=["POST"])
    async def answer(request: Request) -> Response:
        try:
            await door.access.caller()
        except Unauthenticated:
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        except Refused as error:
            return JSONResponse(_answered(None, Failed(Code.REFUSED, str(error))))
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > LARGEST:
                return Response("Request body too large", status_code=413)
        identity: Any = None
        try:
            asked = _parsed(bytes(body))
            identity, method, params = _envelope(asked)
            _require_version(request.headers.get("a2a-version") or request.query_params.get("A2A-Version"))
            if method not in methods:
                raise _unknown(method)
            return JSONResponse({"jsonrpc": "2.0", "id": identity, "result": await methods[method](params)})
        except Failed as error:
            return JSONResponse(_answered(identity, error))


def _answered(identity: Any, error: Failed) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "error": error.told()}


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Failed(Code.PARSE_ERROR, "the body is not JSON") from error


def _envelope(asked: object) -> tuple[str | int | float, str, object]:
    if not isinstance(asked, dict) or asked.get("jsonrpc") != "2.0":
        raise Failed(Code.INVALID_REQUEST, "wants one request of JSON-RPC: an object whose jsonrpc is '2.0'")
    identity, method = asked.get("id"), asked.get("method")
    if not isinstance(identity, str | int | float) or isinstance(identity, bool) or not _is_tellable(identity):
        raise Failed(Code.INVALID_REQUEST, "id: wants a text or a number, because each request is answered")
    if not isinstance(method, str):
        raise Failed(Code.INVALID_REQUEST, "method: wants a text")
    return identity, method, asked.get("params")


def _is_tellable(identity: str | int | float) -> bool:
    """Say whether JSON can have it: Python also reads numbers without an end, and halves of characters."""
    try:
        json.dumps(identity, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True


def _require_version(said: str | None) -> None:
    # The protocol: none said means 0.3; and a patch's number counts for nothing.
    if ".".join((said or "0.3").split(".")[:2]) != PROTOCOL:
        raise Failed(Code.VERSION_NOT_SUPPORTED, f"header A2A-Version: got {(said or 'nothing, which is 0.3')[:40]}, wants {PROTOCOL}")


def _unknown(method: str) -> Failed:
    if method.endswith((_PUSHES, f"{_PUSHES}s")):
        return Failed(Code.PUSH_NOTIFICATION_NOT_SUPPORTED, "nothing is pushed; ask with GetTask")
    if method in _NOT_DONE:
        return Failed(Code.UNSUPPORTED_OPERATION, f"{method} is not done here; the methods are SendMessage, GetTask, CancelTask")
    return Failed(Code.METHOD_NOT_FOUND, f"no method {method[:60]!r}; the methods are SendMessage, GetTask, CancelTask")
