"""An agent's calls of tools as bare MCP over HTTP: a client of a library would cost as much as what is measured; keeps no session."""

import itertools
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx2

_HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", "MCP-Protocol-Version": "2025-06-18"}
# Longer than any wait here.
_WITHIN_S = 120.0


class CallFailed(Exception):
    """A tool answered with an error; its text."""


class Line:
    """Connections to one front door, shared by all who sit at it in this process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx2.AsyncClient(timeout=_WITHIN_S, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None))
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self._http.aclose()

    async def call(self, token: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return what a tool answers. Raises CallFailed."""
        asked = {"jsonrpc": "2.0", "id": next(self._numbers), "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        answer = await self._http.post(self.url, json=asked, headers={**_HEADERS, "Authorization": f"Bearer {token}"})
        if answer.status_code != httpx2.codes.OK:
            raise CallFailed(f"{tool}: HTTP {answer.status_code} {answer.text[:300]}")
        return _found(tool, _message(answer.text))

    async def follow(self, token: str, tool: str, arguments: dict[str, Any], hear: Callable[[str], None]) -> dict[str, Any]:
        """Return what a tool answers, and tell the message of each of its words of progress as it comes. Raises CallFailed."""
        number = next(self._numbers)
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": number}}
        asked = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        told: dict[str, Any] = {}
        async with self._http.stream("POST", self.url, json=asked, headers={**_HEADERS, "Authorization": f"Bearer {token}"}) as answer:
            if answer.status_code != httpx2.codes.OK:
                raise CallFailed(f"{tool}: HTTP {answer.status_code} {(await answer.aread())[:300]!r}")
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    told = json.loads(line.removeprefix("data: "))
                    if told.get("method") == "notifications/progress":
                        hear(told["params"].get("message") or "")
        return _found(tool, told)


def _found(tool: str, told: dict[str, Any]) -> dict[str, Any]:
    result = told.get("result")
    if result is None or result.get("isError"):
        raise CallFailed(f"{tool}: {json.dumps(told.get('error') or result)[:500]}")
    found: dict[str, Any] = result["structuredContent"]
    return found


def _message(text: str) -> dict[str, Any]:
    """Return the last message of an answer, which is an event stream or plain JSON."""
    if not text.startswith("{"):
        text = [line for line in text.splitlines() if line.startswith("data: ")][-1].removeprefix("data: ")
    found: dict[str, Any] = json.loads(text)
    return found


class Seat:
    """One agent at a door."""

    def __init__(self, line: Line, name: str, token: str) -> None:
        self.name, self._line, self._token = name, line, token

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return what a tool answers. Raises CallFailed."""
        return await self._line.call(self._token, tool, arguments)
