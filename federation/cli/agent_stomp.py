"""`federation agent stomp`: lets an agent speak STOMP beside MCP, and feeds it so; its token is its passcode."""

import json
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from federation.cli.console import console, inert, print_json
from federation.cli.operator import transact
from federation.errors import InvalidInput
from federation.local.certificates import Certificates
from federation.local.home import Home
from federation.mcp.where import stomp_url
from federation.services import feeds
from federation.services.feeds import BROADCAST, FROM, USUAL_S
from federation.settings import settings

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the agent: letters, digits, _ and - alone.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def stomp(
    name: Name,
    expires: Annotated[float, typer.Option("--expires", metavar="SECONDS", help="How long what it does not take is kept in its queue.")] = USUAL_S,
    off: Annotated[bool, typer.Option("--off", help="Feed it no more, hear nothing that it says so, and end its connections.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let an agent speak STOMP, and be spoken to.

    What is in its inbox is copied to a queue, and what it writes to another is sent in its name. It logs in with its token.
    """
    if off:
        transact(lambda session: feeds.end(session, name))
        if as_json:
            print_json(json.dumps({"name": name, "off": True}))
        else:
            console.print(inert(f"{name} is fed no more, and what it writes is not heard."))
        return

    def work(session: Session) -> feeds.FeedView:
        if all(feed.agent is not None for feed in feeds.everybody(session)):
            feeds.begin(session, None)
        return feeds.begin(session, name, expires_s=expires)

    if expires <= 0:
        raise InvalidInput("--expires", expires, "seconds, more than none")
    feed = transact(work)
    config = settings()
    told = {
        "name": name,
        "address": stomp_url(config, for_others=True),
        "passcode": f"a token of {name}, as for MCP",
        "reads": [feed.destination, BROADCAST],
        "writes": FROM + name,
        "expires_s": feed.expires_s,
    }
    if config.tls:
        told["authority"] = str(Certificates(Home(config.data_dir).tls_dir).authority)
    if as_json:
        print_json(json.dumps(told, indent=2))
        return
    for title, value in told.items():
        console.print(inert(f"{title:<10} {', '.join(value) if isinstance(value, list) else value}"))
