"""The front door of another machine, for commands that need no more of it than its URL and a token."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from federation.errors import PermanentError, SettingsError
from federation.local.certificates import trusted
from federation.services.names import valid_agent
from federation.settings import settings

if TYPE_CHECKING:
    from federation.stub.door import FrontDoor

Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="The front door of another machine: no database is needed here.")]
As = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="With --url: the agent whose token FEDERATION_TOKEN is; nothing is signed for another.")
]
Authority = Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="With --url: the authority to trust, as `tls init` made it (ca.pem).")]


def front_door(url: str, authority: Path | None, agent: str | None) -> "FrontDoor":
    """Return the front door at a URL, for the agent whose token FEDERATION_TOKEN is. Raises SettingsError, InvalidInput."""
    # It loads FastMCP, for which who asks the database has no use.
    from federation.stub.door import FrontDoor  # noqa: PLC0415

    # The library tells of a bad answer with a traceback, where nobody else hears of it; here it is told in one line.
    logging.getLogger("mcp").addHandler(logging.NullHandler())
    config = settings()
    if config.token is None:
        raise SettingsError("FEDERATION_TOKEN is not set: it says who you are; an operator gets one with `federation agent add NAME --role ROLE`")
    if agent is None:
        raise SettingsError(
            "--as: with --url, name the agent whose token FEDERATION_TOKEN is: --as NAME; `federation agent config NAME --sign` prints it"
        )
    return FrontDoor(url, config.token.get_secret_value(), valid_agent(agent), trusted(config, authority), config)


def ask(door: "FrontDoor", tool: str, **arguments: Any) -> dict[str, Any]:
    """Return what a tool answers; arguments that are None are left out. Raises PermanentError with its error, and as `FrontDoor.call`."""
    # As in `front_door`; it is loaded by now.
    from mcp.shared.exceptions import MCPError  # noqa: PLC0415

    try:
        answer = anyio.run(door.call, tool, {name: value for name, value in arguments.items() if value is not None})
    except (MCPError, RuntimeError) as error:
        raise PermanentError(f"{door.url} refuses {tool}: {_line(error)}{_sent(door)}") from error
    if answer.is_error:
        raise PermanentError("".join(getattr(part, "text", "") for part in answer.content) + _sent(door))
    if not isinstance(found := answer.structured_content, dict):
        raise PermanentError(f"{door.url} answers {tool} with nothing that this version could read; look at its version and its log{_sent(door)}")
    return found


@contextmanager
def understood(door: "FrontDoor") -> Iterator[None]:
    """Read an answer; raises PermanentError in one line for one in another form."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {_line(error)}"
        known = f"{door.url} answers in a form that this version does not know ({reason}); look at its version and its log"
        raise PermanentError(known + _sent(door)) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _sent(door: "FrontDoor") -> str:
    """Return what is told of a statement beside an error; nothing if none was signed."""
    return f". It was signed and sent: {door.said.choice} of {door.said.subject}" if door.said else ""
