"""The front door of another machine, for commands that need no more of it than its URL and a token."""

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
    answer = anyio.run(door.call, tool, {name: value for name, value in arguments.items() if value is not None})
    if answer.is_error:
        raise PermanentError("".join(getattr(part, "text", "") for part in answer.content))
    found: dict[str, Any] = answer.structured_content
    return found
