"""`federation schedule`: when conversations are summarised beside what their length asks for."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from federation.cli.acting import name, transact_as
from federation.cli.console import console, inert, print_json, table
from federation.services import summary_schedules

app = typer.Typer(name="schedule", help="Set when a conversation is summarised.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Conversation = Annotated[str, typer.Argument(metavar="CONVERSATION", help="Its name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def add(
    conversation: Conversation,
    cron: Annotated[
        str | None,
        typer.Option(metavar="TIMES", help="Minute, hour, day of the month, month, day of the week, in UTC, such as '0 7 * * mon-fri'."),
    ] = None,
    messages: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="After so many messages to all, in place of FEDERATION_SUMMARY_WINDOW.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set when a conversation is summarised, in place of what was set.

    At some times, after some messages, or both. In the name of the agent whose token is in FEDERATION_TOKEN, else in yours.
    Beat follows without a restart.
    """
    put = transact_as(name(), lambda session: summary_schedules.put(session, conversation, cron=cron, messages=messages))
    if as_json:
        print_json(json.dumps(asdict(put), indent=2, default=str))
        return
    at = [] if put.next_at is None else [f"at {put.cron}, next on {put.next_at:%Y-%m-%d %H:%M} UTC"]
    after = [] if put.messages is None else [f"after {put.messages} messages"]
    console.print(inert(f"{put.conversation_id} is summarised {' and '.join([*at, *after])}."))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List what is set, for an agent in its conversations."""
    found = transact_as(name(), summary_schedules.listed)
    if as_json:
        print_json(json.dumps({"schedules": [asdict(each) for each in found]}, indent=2, default=str))
        return
    rows = table("conversation", "times", "next", "messages", "set by")
    for each in found:
        next_at = "" if each.next_at is None else f"{each.next_at:%Y-%m-%d %H:%M}"
        rows.add_row(*map(inert, (each.conversation_id, each.cron or "", next_at, each.messages or "", each.updated_by)))
    console.print(rows if found else "Nothing is set: all are summarised by their length alone.")


@app.command()
def remove(conversation: Conversation) -> None:
    """Have a conversation summarised by its length alone, as others are. Exit code 1: nothing is set for it."""
    transact_as(name(), lambda session: summary_schedules.remove(session, conversation))
    console.print(inert(f"{conversation} is summarised by its length alone."))
