"""`federation pulse`: what every agent and node is doing now, or was at a moment; an operator sees all of it."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from federation.cli import inputs
from federation.cli.console import console, inert, print_json, table
from federation.cli.operator import transact
from federation.services import cop, matches
from federation.services.cop import PulseRow
from federation.settings import settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def pulse(
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="What everybody was doing then, such as 14:05 (today) or 2030-01-31T14:05.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what everybody is doing, or was doing at a time of this machine's clock."""
    moment = None if at is None else inputs.moment("--at", at)

    def look(session: Session) -> tuple[list[PulseRow], list[matches.Match]]:
        config = settings()
        if moment is not None:
            return cop.pulse_at(session, moment, agent_stale_s=config.agent_stale_s), []
        rows = cop.pulse(session, node_stale_s=config.node_stale_s, agent_stale_s=config.agent_stale_s)
        return rows, matches.found(session, rows)

    rows, found = transact(look)
    if as_json:
        told = {"at": moment and moment.isoformat(), "rows": [asdict(row) for row in rows], "matches": [asdict(match) for match in found]}
        print_json(json.dumps(told, indent=2, default=lambda value: value.model_dump() if hasattr(value, "model_dump") else str(value)))
        return
    shown = table("who", "role", "status", "doing", "thinking", "wondering", "offering", "age")
    for row in rows:
        status = f"{row.status} (stale)" if row.stale else row.status.value
        offering = "; ".join(filter(None, [row.offering, ", ".join(row.capabilities)]))
        shown.add_row(*map(inert, (row.name, row.role, status, row.summary, row.thinking or "", row.wondering or "", offering, cop.age(row.age_s))))
    console.print(shown if rows else "Nobody is known yet. Add an agent with: federation agent add NAME --role ROLE")
    for match in found:
        console.print(inert(f"{match.who} wonders «{match.wondering}»: {match.could_ask} offers «{match.offering}»"))
