"""A2A's tasks: a message hands one out, and where it stands is told in A2A's words. The tools do it, with their rights; nothing is decided here."""

import hashlib
from typing import Any

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError, ValidationError

from federation.a2a.errors import Code, Failed, failed
from federation.a2a.messages import OneTask, SendMessage, asked, require_possible, terms
from federation.errors import Conflict, DatabaseUnavailable, IssuerUnavailable
from federation.mcp.answers import AtDoor, PlainWords
from federation.mcp.catalogue import offer
from federation.mcp.door import Door

# A client that waits for the end waits so long at most, as with the tool; then it asks again.
WAIT_S = 600
_USED = frozenset({"federation_delegate", "federation_task_status", "federation_task_result", "federation_cancel_task"})
_STATES = {
    "running": "TASK_STATE_WORKING",
    "completed": "TASK_STATE_COMPLETED",
    "cancelled": "TASK_STATE_CANCELED",
    **dict.fromkeys(("failed", "expired", "quarantined"), "TASK_STATE_FAILED"),
}
# Of whatever is not named there somebody will begin.
_WAITS = "TASK_STATE_SUBMITTED"
_REJECTED = "TASK_STATE_REJECTED"


class Tasks:
    """The tasks of one door; whose call it is, the token of the current request tells."""

    def __init__(self, door: Door) -> None:
        # What clients of MCP are offered may be fewer.
        tools = [tool for tool in offer() if tool.name in _USED]
        middleware = [AtDoor(door), PlainWords()]
        self._access = door.access
        self._tools = FastMCP("a2a", tools=tools, middleware=middleware, mask_error_details=True, dereference_schemas=False)

    async def send(self, given: SendMessage) -> dict[str, Any]:
        """Hand out what a message asks for, once for each message id, and wait for its end unless told not to. Raises Failed, DatabaseUnavailable."""
        message, how = given.message, given.configuration
        require_possible(how)
        if message.task_id:
            await self._status(message.task_id)
            raise Failed(Code.UNSUPPORTED_OPERATION, "a task takes no further message; send one with its contextId alone, which makes another task")
        description, inputs = asked(message)
        name = _name((await self._access.caller()).name, message.message_id)
        arguments = {**terms(message), "description": description, "task_id": name}
        arguments |= {"parameters": inputs} if inputs else {}
        arguments |= {"conversation_id": message.context_id} if message.context_id else {}
        made = await self._call("federation_delegate", arguments)
        if not how.return_immediately:
            await self._call("federation_task_result", {"task_id": made["task_id"], "wait_s": WAIT_S})
        return {"task": await self.get(OneTask(id=made["task_id"]), note=made["note"])}

    async def get(self, given: OneTask, *, note: str | None = None) -> dict[str, Any]:
        """Return a task that the caller may see. Raises Failed, DatabaseUnavailable."""
        stands = await self._status(given.id)
        came = await self._call("federation_task_result", {"task_id": stands["task_id"]})
        identity, context = {"id": stands["task_id"]}, {"contextId": stands["conversation_id"]}
        state = _STATES.get(came["state"], _WAITS)
        result = came["result"] if came["finished"] else None
        if state == "TASK_STATE_CANCELED" and isinstance(result, dict) and "rejected_by" in result:
            state = _REJECTED
        said = came["error"] or came["waiting_for"] or stands["note"] or (None if came["finished"] else note)
        if state in {"TASK_STATE_CANCELED", _REJECTED} and isinstance(result, dict):
            said, result = result.get("reason") or said, None
        status: dict[str, Any] = {"state": state}
        if said:
            about = {"messageId": f"{stands['task_id']}:{state}", "taskId": stands["task_id"], **context}
            status["message"] = {**about, "role": "ROLE_AGENT", "parts": [{"text": said}]}
        artifacts = {} if result is None else {"artifacts": [{"artifactId": "result", "name": "result", "parts": _parts(result)}]}
        return {**identity, **context, "status": status, **artifacts}

    async def cancel(self, given: OneTask) -> dict[str, Any]:
        """End a task, and return it. Raises Failed, DatabaseUnavailable."""
        stands = await self._status(given.id)
        await self._call("federation_cancel_task", {"task_id": stands["task_id"]}, if_conflict=Code.TASK_NOT_CANCELABLE)
        return await self.get(given)

    async def _status(self, task_id: str) -> dict[str, Any]:
        stands = await self._call("federation_task_status", {"task_id": task_id})
        if stands["kind"] != "task":
            raise Failed(Code.TASK_NOT_FOUND, f"no task {task_id!r}")
        return stands

    async def _call(self, tool: str, arguments: dict[str, Any], *, if_conflict: Code = Code.INVALID_PARAMS) -> dict[str, Any]:
        try:
            answer = (await self._tools.call_tool(tool, arguments)).structured_content
        except ToolError as error:
            if isinstance(error.__cause__, DatabaseUnavailable | IssuerUnavailable):
                raise error.__cause__ from error
            if isinstance(error.__cause__, ValidationError):
                raise Failed(Code.INVALID_PARAMS, str(error)) from error
            if isinstance(error.__cause__, Conflict):
                raise Failed(if_conflict, str(error)) from error
            raise failed(error.__cause__, str(error)) from error
        assert answer is not None  # each tool has a schema of what it answers
        return answer


def _name(caller: str, message_id: str) -> str:
    """Return the name of a message's task, so that a message that comes again makes no other."""
    # A client's id may be any text, and not every text is a name; and two clients may have the same.
    return f"a2a-{hashlib.sha256(f'{caller} {message_id}'.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _parts(result: Any) -> list[dict[str, Any]]:
    """Return what came of a task as it is, and, for who reads text, the text that it holds."""
    text = result.get("text") if isinstance(result, dict) else None
    return [
        *([{"text": text, "mediaType": "text/plain"}] if isinstance(text, str) and text else []),
        {"data": result, "mediaType": "application/json"},
    ]
