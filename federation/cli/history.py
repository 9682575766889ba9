"""`federation history`: what was said in a conversation, and whether each who said it signed it himself; an operator sees all of it."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from federation.cli.console import console, inert, print_json, table
from federation.cli.operator import transact
from federation.services import history as past
from federation.services.conversations import COMMONS
from federation.services.history import Said

_VOUCHED = {True: "signed", False: "attested", None: ""}


def history(
    conversation: Annotated[str, typer.Argument(metavar="CONVERSATION", help="Its name; direct:ada:bob is that of ada and bob.")] = COMMONS,
    before: Annotated[int | None, typer.Option(min=1, metavar="POSITION", help="Only what lies before this position.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most, the latest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the latest messages of a conversation, as an operator: private ones too."""
    page = transact(lambda session: past.page(session, conversation, before=before, limit=limit))
    if as_json:
        messages = [_line(said) for said in page.messages]
        print_json(json.dumps({"conversation_id": page.conversation_id, "messages": messages, "more": page.more}, indent=2, default=str))
        return
    rows = table("position", "at", "sender", "to", "type", "vouched", "content")
    for said in page.messages:
        at = f"{said.created_at:%Y-%m-%d %H:%M:%S}"
        rows.add_row(*map(inert, (said.position, at, said.sender, said.to or "", said.message_type, _VOUCHED[said.signed], said.content)))
    console.print(rows if page.messages else "Nothing was said there.")
    if page.more:
        console.print(f"(older ones: --before {page.messages[0].position})")


def _line(said: Said) -> dict[str, object]:
    told = {name: value for name, value in asdict(said).items() if name not in {"read_by", "unread_by", "signed"}}
    return {**told, "mode": _VOUCHED[said.signed] or None}
