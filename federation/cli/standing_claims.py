"""What is claimed, for who is about to commit: read from PostgreSQL where that is set, else asked of the front door with the agent's token."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from federation.cli import acting, repository
from federation.cli.operator import transact
from federation.errors import FederationError, SettingsError, TransientError
from federation.local.certificates import trusted
from federation.local.person import person
from federation.mcp.where import mcp_url
from federation.services import resource_claims
from federation.services.claimed_paths import Standing
from federation.settings import Settings, settings

REVISION = "2026-07-28"
ANSWER_WITHIN_S = 10.0
_PAGE = 200


class DoorUnavailable(TransientError):
    """The front door does not answer, or not as one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Who asks, the claims that stand, and what the charter wants claimed."""

    me: str
    claims: Sequence[Standing]
    required: Sequence[str]


def picture(prefix: str) -> Picture:
    """Return what is claimed among the names that begin so. Raises FederationError where nobody can be asked."""
    near = f"{prefix}**"
    return _of_database(near) if settings().database_url is not None else _of_door(settings(), near)


def _of_database(near: str) -> Picture:
    me = acting.name() if settings().token is not None else repository.setting("agent") or person()
    claims: list[Standing] = []
    after = None
    while True:
        page = transact(partial(resource_claims.listed, overlapping=near, after=after, limit=_PAGE, seen_by=me))
        claims += [Standing(one.resource, one.holder, one.expires_at, one.description, one.fencing_token) for one in page.claims]
        after = page.more
        if after is None:
            return Picture(me, claims, page.must_claim)


def _of_door(config: Settings, near: str) -> Picture:
    if config.token is None:
        raise SettingsError(
            "neither FEDERATION_DATABASE_URL nor FEDERATION_TOKEN is set, so nobody can be asked: set the token of your agent, and FEDERATION_MCP_URL"
        )
    pages = list(_pages(config, near))
    claims = [_standing(one) for page in pages for one in page["claims"]]
    return Picture(pages[-1]["you"], claims, pages[-1]["must_claim"])


def _standing(told: dict[str, Any]) -> Standing:
    ends = datetime.fromisoformat(told["expires_at"])
    if "fencing_token" not in told:
        raise DoorUnavailable("the front door is older than this command, and tells no fencing tokens: update the federation there")
    return Standing(told["resource"], told["holder"], ends, told["description"], told["fencing_token"])


def _pages(config: Settings, near: str) -> Iterator[dict[str, Any]]:
    after = None
    while True:
        page = call_tool(config, "federation_claims", {"resource": near, "limit": _PAGE, "after": after})
        yield page
        if (after := page["more"]) is None:
            return


def call_tool(config: Settings, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what a tool of the front door answers, called with the token that is set. Raises DoorUnavailable, FederationError for a refusal."""
    assert config.token is not None
    url = mcp_url(config, for_others=config.mcp_url is not None)
    about = {f"io.modelcontextprotocol/{key}": value for key, value in {"protocolVersion": REVISION, "clientCapabilities": {}}.items()}
    params = {"name": tool, "arguments": arguments, "_meta": about}
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "Authorization": f"Bearer {config.token.get_secret_value()}",
        "mcp-protocol-version": REVISION,
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    said = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    request = urllib.request.Request(url, said, headers)  # noqa: S310 - the URL is a setting, http or https
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S, context=trusted(config)) as answer:  # noqa: S310
            body = _body(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise FederationError(f"the front door at {url} does not take the token in FEDERATION_TOKEN") from error
        raise DoorUnavailable(f"the front door at {url} answers {error.code}") from error
    except (OSError, ValueError) as error:
        raise DoorUnavailable(f"the front door at {url} does not answer ({error})") from error
    result = body.get("result", {})
    if "structuredContent" not in result or result.get("isError"):
        raise FederationError(f"the front door at {url} refuses: {json.dumps(body)[:500]}")
    found: dict[str, Any] = result["structuredContent"]
    return found


def _body(text: str) -> dict[str, Any]:
    """Return the answer in a body of JSON, or in the last event of a stream. Raises ValueError."""
    events = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")] or [text]
    found = json.loads(events[-1])
    if not isinstance(found, dict):
        raise ValueError("it is no object of JSON")  # noqa: TRY004 - as what is no JSON at all
    return found
