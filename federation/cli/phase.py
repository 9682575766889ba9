"""`federation phase`: shows in which phase a conversation is and what it takes to go on, or moves it."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from federation.cli.acting import name, transact_as
from federation.cli.console import console, inert, print_json, table
from federation.services import phase_moves
from federation.services.phase_moves import Standing


def phase(
    conversation: Annotated[str, typer.Argument(metavar="CONVERSATION", help="The conversation.")],
    to: Annotated[str | None, typer.Argument(metavar="PHASE", help="propose, discuss, decide, execute or review; left out: look.")] = None,
    *,
    reason: Annotated[str, typer.Option(help="Why, for its members.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show or move a conversation's phase.

    In the name of the agent whose token is in FEDERATION_TOKEN, else in yours.
    """

    def work(session: Session) -> Standing:
        if to is not None:
            phase_moves.move(session, conversation, to, reason=reason)
        return phase_moves.standing(session, conversation)

    found = transact_as(name(), work)
    if as_json:
        print_json(json.dumps(asdict(found), indent=2, default=str))
        return
    console.print(inert(f"{conversation} is in {f'its phase {found.phase}' if found.phase else 'no phase'}."))
    if found.next is not None:
        console.print(inert(f"It goes on to {found.next}" + (f" when {', and '.join(found.missing)}." if found.missing else ".")))
    if found.roles:
        rows = table("agent", "role", "task", "state")
        for one in found.roles:
            rows.add_row(*map(inert, (one.agent, one.role, one.task, one.state)))
        console.print(rows)
