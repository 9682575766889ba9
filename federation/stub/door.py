"""The front door seen by a client: calls its tools, signs with the agent's own key what a call states, says in plain words what is wrong.

A connection of its own for each call, so that the next one after a restart of the front door is like any other.
"""

import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import anyio
import httpx2
import mcp_types
from fastmcp.client.progress import ProgressHandler
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server.providers.proxy import ProxyClient
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from federation.errors import FederationError, PermanentError, Refused, SettingsError, TransientError, Unauthenticated
from federation.mcp.signing import SIGN, WANTED, Wanted, brought
from federation.security.key_files import agent_key_file, own_key
from federation.security.signing import public_file
from federation.security.statements import Draft, KeyVoice, content_sha256, nonce
from federation.settings import Settings
from federation.stub import checks
from federation.stub.bounds import PLAIN, bound
from federation.stub.kept import ACKNOWLEDGE, Kept

T = TypeVar("T")

# A call states one thing, and the same once more where somebody was quicker.
SIGNED_AT_MOST = 3

# The revision of the protocol that is stateless: a call is one request, and needs no session that a restart would end.
REVISION = "2026-07-28"
# The front door tells of a wait every few seconds; the longest wait that nobody tells of is that for a worker's answer.
SILENT_S = 300.0
_CONNECT_S = 10.0
_GONE = (httpx2.HTTPError, anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)
# What the protocol's library says of a refusal that is none of the protocol's.
_NO_ANSWER = ("Server returned an error response", "Not Found")
_EXPLAINED = {
    401: "does not take the token in FEDERATION_TOKEN: it is unknown, expired or revoked; get another with `federation agent rotate NAME`",
    404: "knows no such path; the URL ends with /mcp",
    421: "does not answer to this name: whoever runs it names it in FEDERATION_MCP_ALLOWED_HOSTS",
}


class DoorUnavailable(TransientError):
    """The front door does not answer; its text says what to do."""


class _Client(ProxyClient[StreamableHttpTransport]):
    """One connection, which knows what the front door answered to it."""

    status: int | None = None


@dataclass
class FrontDoor:
    """A front door elsewhere, called with the token of one `agent`, whose key alone signs; `trust` is whose certificates are believed."""

    url: str
    token: str
    # Known here: a front door that could say whose key signs would have the keys of all agents of this machine.
    agent: str
    trust: ssl.SSLContext
    config: Settings
    # How many statements of one call are signed.
    most: int = SIGNED_AT_MOST
    # For how long an answer may tell of no progress, however many bytes come.
    silent_s: float = SILENT_S
    # Made, or read, for the first signature.
    _me: KeyVoice | None = field(default=None, init=False)
    # What was signed last.
    said: Draft | None = field(default=None, init=False)
    _kept: Kept = field(default_factory=Kept, init=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise SettingsError(f"--url: got {self.url!r}, wants the URL of a front door, such as https://fed.example:8765/mcp")

    def client(self) -> _Client:
        """Return a client for one call, not yet connected."""

        async def look(response: httpx2.Response) -> None:
            made.status = response.status_code
            bound(response)

        def connection(**given: Any) -> httpx2.AsyncClient:
            given.setdefault("timeout", httpx2.Timeout(_CONNECT_S, read=self.silent_s))
            given["headers"] = dict(given.get("headers") or {}) | PLAIN
            return httpx2.AsyncClient(verify=self.trust, event_hooks={"response": [look]}, **given)

        transport = StreamableHttpTransport(self.url, auth=self.token, httpx_client_factory=cast("Any", connection))
        # It asks nothing of the client that called: not for its folders, not for its model, not for what its user would type.
        nothing: dict[str, Any] = {"roots": None, "sampling_handler": None, "elicitation_handler": None}
        made = _Client(transport, mode=REVISION, forward_incoming_headers=False, **nothing)
        return made

    @contextmanager
    def patience(self) -> Iterator[anyio.CancelScope]:
        """Wait for an answer until the deadline, which may be moved. Raises DoorUnavailable."""
        with anyio.move_on_after(self.silent_s) as scope:
            yield scope
        if scope.cancelled_caught:
            raise DoorUnavailable(f"the front door at {self.url} has told of no progress for {self.silent_s:g} s: look at its log, and call again")

    async def tools(self) -> list[mcp_types.Tool]:
        """Return what the front door offers. Raises DoorUnavailable, Unauthenticated, SettingsError, MCPError."""
        with self.patience():
            return await self._at(lambda client: client.list_tools())

    async def call(self, tool: str, arguments: dict[str, Any], *, progress: ProgressHandler | None = None) -> mcp_types.CallToolResult:
        """Call a tool, and sign what it states, unless the caller has signed that himself.

        Raises DoorUnavailable, Unauthenticated, SettingsError, MCPError; Refused where it is asked to sign something else than the call says.
        """
        if tool == ACKNOWLEDGE:
            self._kept.read(arguments)
            answer = await self._call(tool, arguments, progress, None)
            told = answer.structured_content
            self._kept.read(arguments, known=told.get("consensus_id") if isinstance(told, dict) else None)
            return answer
        if tool not in checks.SIGNED or arguments.get("statement") is not None or arguments.get("signature") is not None:
            return await self._call(tool, arguments, progress, None)
        if (argument := checks.name_of(tool)) is not None and arguments.get(argument) is None:
            arguments = arguments | {argument: _name()}
        signed: dict[tuple[str, ...], dict[str, str]] = {}
        # One that must be done again, because somebody was quicker, is signed again.
        made: list[Draft] = []
        while True:
            answer = await self._call(tool, arguments, progress, {SIGN: self._says(list(signed.values()))})
            wanted = _wanted(answer)
            if wanted is None:
                return _counted(self._explained(answer), made)
            if wanted.actor != self.agent:
                why = f"{self.url} asks {self.agent} to sign as {wanted.actor!r}. {_done(made)}"
                raise Refused("A token speaks for one agent:", f"{why} If the token is of another agent, name that one after --as.")
            if checks.is_unnamed(wanted) and arguments.get("task_id") is None:
                arguments = arguments | {"task_id": _name()}
                continue
            if flaw := checks.flaw(tool, arguments, wanted) or self._kept.flaw(tool, arguments, wanted, made):
                raise Refused("Only what a call says is signed for it:", f"{self.url} asks to sign {flaw}. {_done(made)}")
            if len(made) == self.most:
                many = "one signature" if self.most == 1 else f"{self.most} signatures"
                raise PermanentError(f"{self.url} asks for more than {many} of one call; look at its log. {_done(made)}")
            try:
                draft, brings = self._signed(wanted)
            except (ValueError, RecursionError) as error:
                why = " ".join(str(error).split())[:200]
                raise PermanentError(f"{self.url} asks to sign what cannot be signed: {why}. {_done(made)}") from error
            made.append(draft)
            signed[draft.action, draft.choice, draft.subject, draft.content_sha256] = brings

    def _says(self, statements: list[dict[str, str]]) -> dict[str, Any]:
        return {"key": self._me.key.public.pem if self._me else None, "statements": statements}

    def _signed(self, wanted: Wanted) -> tuple[Draft, dict[str, str]]:
        if self._me is None:
            self._me = KeyVoice(own_key(agent_key_file(self.config, self.agent)), self.agent)
        digest, at = content_sha256(wanted.content), datetime.now(UTC).isoformat()
        draft = Draft(self.agent, wanted.action, wanted.choice, wanted.subject, digest, at, nonce())
        signed = self._me.speak(draft)
        self.said = draft
        self._kept.signed(draft)
        return draft, brought(signed.text, signed.signature)

    def _explained(self, answer: mcp_types.CallToolResult) -> mcp_types.CallToolResult:
        """Return the answer; with where the key lies, if it is an error about that."""
        text = "".join(part.text for part in answer.content if isinstance(part, mcp_types.TextContent))
        if not answer.is_error or self._me is None or f"key {self._me.key.public.identity[:16]}" not in text:
            return answer
        file = agent_key_file(self.config, self._me.owner)
        where = f"The key is {file}, its public half {public_file(file)}. Where the file is removed another is made, which an operator makes known."
        # One text, because clients show the first.
        return answer.model_copy(update={"content": [mcp_types.TextContent(type="text", text=f"{text} {where}")]})

    async def _call(
        self, tool: str, arguments: dict[str, Any], told: ProgressHandler | None, meta: dict[str, Any] | None
    ) -> mcp_types.CallToolResult:
        with self.patience() as patience:
            # It is heard of even where nobody asks, so that the front door tells of it, and a long wait is not taken for a dead connection.
            async def hear(progress: float, total: float | None, message: str | None) -> None:
                patience.deadline = anyio.current_time() + self.silent_s
                if told is not None:
                    await told(progress, total, message)

            return await self._at(lambda client: client.call_tool_mcp(tool, arguments, progress_handler=hear, meta=meta))

    async def _at(self, ask: Callable[[_Client], Awaitable[T]]) -> T:
        client = self.client()
        try:
            async with client:
                return await ask(client)
        except (MCPError, RuntimeError, OSError, *_GONE) as error:
            if (ours := self._why(error, client.status)) is None:
                raise
            raise ours from error

    def _why(self, error: BaseException, status: int | None) -> FederationError | None:
        """Return in the words of the settings why the front door could not be asked; None for what it answered itself."""
        chain: list[BaseException] = [error]
        while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 20:
            chain.append(before)
        why = next((str(one) for one in chain if isinstance(one, OSError | httpx2.HTTPError) and str(one)), str(error))
        # The library tells it in OpenSSL's words, and no longer of what kind it was.
        if "CERTIFICATE_VERIFY_FAILED" in why:
            flaw = why.partition("verify failed: ")[2].partition(" (_ssl")[0]
            trusted = "name the authority that signed it, the ca.pem of `federation tls init` there: --ca FILE"
            return SettingsError(f"the certificate of {self.url} is not trusted ({flaw}); {trusted}")
        if status is not None and (status in {401, 421} or (status >= 400 and getattr(error, "message", _NO_ANSWER[0]) in _NO_ANSWER)):
            reason = f"the front door at {self.url} {_EXPLAINED.get(status, f'answers {status}; call again')}"
            return Unauthenticated(reason) if status == 401 else SettingsError(reason) if status in _EXPLAINED else DoorUnavailable(reason)
        if isinstance(error, MCPError) and error.error.code != mcp_types.CONNECTION_CLOSED:
            return None
        if isinstance(error, RuntimeError) and not any(isinstance(one, (*_GONE, MCPError)) for one in chain):
            return None
        return DoorUnavailable(f"the front door at {self.url} does not answer ({why}): see that it runs and that the URL is right, and call again")


def _wanted(answer: mcp_types.CallToolResult) -> Wanted | None:
    asks = (answer.meta or {}).get(WANTED) if answer.is_error else None
    try:
        return None if asks is None else Wanted.model_validate(asks)
    except ValidationError as error:
        raise PermanentError(f"the front door asks for a signature in a form that this version does not know: {error}") from error


def _done(made: Sequence[Draft]) -> str:
    if not made:
        return "Nothing was signed, and nothing done."
    signed = "One statement of the call was signed and sent" if len(made) == 1 else f"{len(made)} statements of the call were signed and sent"
    return f"{signed} ({_told(made)}): look what was done before you call again."


def _told(made: Sequence[Draft]) -> str:
    return "; ".join(f"{one.choice} of {one.subject}, sha256 {one.content_sha256}" for one in made)


def _counted(answer: mcp_types.CallToolResult, made: Sequence[Draft]) -> mcp_types.CallToolResult:
    """Return the answer; with which statements were signed, where one would do."""
    if len(made) <= 1:
        return answer
    why = "somebody was quicker, or the front door asks for more than it needs."
    told = f"{len(made)} statements of this call were signed ({_told(made)}): {why}"
    return answer.model_copy(update={"content": [*answer.content, mcp_types.TextContent(type="text", text=told)]})


def _name() -> str:
    return f"signed-{secrets.token_hex(8)}"
