"""`federation state`: tells all others what the agent whose token is set is doing, thinking, wondering and offering."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from federation.cli import inputs
from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, inert, print_json
from federation.errors import InvalidInput
from federation.services import cop, matches
from federation.services.matches import Match
from federation.settings import settings
from federation.store.context import context
from federation.store.models.cop import Action, Visibility


def state(
    *,
    summary: Annotated[str, typer.Option(help="What you are doing, in one line.")],
    action: Annotated[Action, typer.Option(case_sensitive=False, help="You work, wait for somebody or something, or are free.")] = Action.EXECUTING,
    thinking: Annotated[str | None, typer.Option(help="What you weigh up.")] = None,
    wondering: Annotated[str | None, typer.Option(help="A question that somebody else may be able to answer.")] = None,
    offering: Annotated[str | None, typer.Option(help="What you could do for others.")] = None,
    visible: Annotated[Visibility, typer.Option("--visible", help="Who sees this.")] = Visibility.ALL,
    capability: Annotated[
        list[str] | None, typer.Option("--capability", metavar="NAME", help="All that you can do for others, each once; left out: as before.")
    ] = None,
    no_capability: Annotated[bool, typer.Option("--no-capability", help="You can do nothing of that kind any more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what you are doing, as the agent whose token FEDERATION_TOKEN is.

    It replaces your whole former state, also what you leave out now, but not your capabilities. `federation pulse` shows it. It answers with
    whom you could ask, or help.
    """
    if capability and no_capability:
        raise InvalidInput("--capability", capability, "no --no-capability beside it")
    said = {"--summary": summary, "--thinking": thinking, "--wondering": wondering, "--offering": offering}
    for option, given in said.items():
        if given is not None:
            inputs.kept(option, given, longest=inputs.LONGEST_LINE)
    able: Sequence[str] | None = [] if no_capability else capability or None

    def work(session: Session) -> tuple[str, datetime, list[Match]]:
        me, config = context(session).actor, settings()
        at = cop.update_state(
            session, summary, action=action, thinking=thinking, wondering=wondering, offering=offering, visibility=visible, able=able
        )
        rows = cop.pulse(session, node_stale_s=config.node_stale_s, agent_stale_s=config.agent_stale_s)
        return me, at, matches.found(session, rows, of=[me])

    me, at, found = transact_as_agent(work)
    if as_json:
        print_json(json.dumps({"agent": me, "updated_at": at, "matches": list(map(asdict, found))}, indent=2, default=str))
        return
    console.print(inert(f"{me} is {action}: {summary}"))
    for match in found:
        console.print(inert(f"{match.who} wonders «{match.wondering}»: {match.could_ask} offers «{match.offering}»"))
