"""`federation inbox`: what was sent to the agent whose token is set and is not read yet; waits for the first message where asked to."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, errors, inert, print_json
from federation.cli.waiting import Wait, until
from federation.services import inboxes
from federation.services.inboxes import Inbox, Received
from federation.store.context import context

_INDENT = 6 * " "


def inbox(
    *,
    wait_s: Wait = 0,
    after: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, metavar="N", help="What lies up to it counts as read from now on.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most; fewer come where they are long.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what was sent to the agent whose token FEDERATION_TOKEN is, oldest first.

    All that is unread; it is shown again until you say with --after up to which number you have read it.
    """
    looked = False

    def look() -> Inbox:
        nonlocal looked
        found = transact_as_agent(lambda session: inboxes.inbox(session, after=after, limit=limit, again=looked))
        looked = True
        return found

    def news() -> Inbox | None:
        found = look()
        return found if found.messages else None

    found = until(news, notice=f"inbox:{transact_as_agent(_me)}", wait_s=wait_s) or look()
    if as_json:
        print_json(json.dumps(asdict(found), indent=2, default=str))
        return
    for message in found.messages:
        console.print(inert(_told(message)))
    if not found.messages:
        console.print("Nothing new.")
    else:
        errors.print(f"Read up to here: federation inbox --after {found.cursor}" + (" (there is more)" if found.more else ""))


def _me(session: Session) -> str:
    return context(session).actor


def _told(message: Received) -> str:
    to = f" to {message.to}" if message.to else ""
    reply = f", a reply to {message.reply_to}" if message.reply_to else ""
    how = "signed" if message.signed else "attested"
    at, where = f"{message.created_at:%Y-%m-%d %H:%M:%S}", f"in {message.conversation_id}"
    head = f"{message.cursor:<5} {at}  {message.sender}{to} {where}: {message.message_type}, {how}"
    lines = [f"id {message.message_id}{reply}", message.content]
    if message.data:
        lines.append(json.dumps(message.data, ensure_ascii=False))
    # Further lines stand below the first, so that nobody writes lines that look like the others.
    return "\n".join([head, *(_INDENT + line.replace("\n", "\n" + _INDENT) for line in lines)])
