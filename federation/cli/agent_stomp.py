"""`federation agent stomp`: lets an agent speak STOMP beside MCP, and feeds it so; shows the password of its broker's user, and of no other."""

import json
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from federation.cli.console import console, errors, inert, print_json
from federation.cli.operator import transact
from federation.errors import InvalidInput
from federation.local import anew, credentials
from federation.local.activemq import user_of
from federation.local.elsewhere import is_elsewhere
from federation.local.home import Home
from federation.local.lock import holder
from federation.services import feeds
from federation.services.feeds import BROADCAST, FROM, USUAL_S
from federation.settings import settings

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the agent: letters, digits, _ and - alone.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def stomp(
    name: Name,
    expires: Annotated[float, typer.Option("--expires", metavar="SECONDS", help="How long what it does not take is kept in its queue.")] = USUAL_S,
    off: Annotated[bool, typer.Option("--off", help="Feed it no more, and hear nothing that it says so.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let an agent speak STOMP, and be spoken to.

    What is in its inbox is copied to a queue, and what it writes to another is sent in its name.

    The broker knows the agent as a user of its own, for which it is started anew where it runs.
    """
    home = Home(settings().data_dir)
    if off:
        transact(lambda session: feeds.end(session, name))
        credentials.let_speak_no_more(home, name)
        _tell_the_broker(home)
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
    local = not is_elsewhere(settings(), "broker_url")
    password = credentials.let_speak(home, name) if local else None
    if local:
        _tell_the_broker(home)
    told = {
        "name": name,
        "user": user_of(name),
        "password": password,
        "reads": [feed.destination, BROADCAST],
        "writes": FROM + name,
        "expires_s": feed.expires_s,
    }
    if as_json:
        print_json(json.dumps(told, indent=2))
        return
    for title, value in told.items():
        console.print(inert(f"{title:<10} {', '.join(value) if isinstance(value, list) else '' if value is None else value}"))
    if not local:
        errors.print(inert(f"Your ActiveMQ must have a user {user_of(name)} with these rights and no others: see docs/adr/0013-stomp-peers.md"))


def _tell_the_broker(home: Home) -> None:
    if holder(home) is not None:
        errors.print("ActiveMQ starts anew, to go by it; all others come back to it by themselves.")
        anew.start_anew("activemq", home)
