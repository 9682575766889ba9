"""`federation signer`: lists the keys that sign executions, and revokes them; shows no private key, and registers none."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from federation.cli.console import console, inert, print_json, table
from federation.cli.operator import take_away, transact
from federation.services import signers
from federation.services.signers import SHOWN

app = typer.Typer(
    name="signer", help="List and revoke the keys that executions are signed with.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_signers(as_json: AsJson = False) -> None:
    """List all keys and the services that each signs for.

    Valid or revoked, of all parts of the program and of operators.
    """
    found, services = transact(lambda session: (signers.everybody(session), signers.services(session)))
    if as_json:
        told = [{**asdict(one), "state": one.state, "services": services.get(one.identity, [])} for one in found]
        print_json(json.dumps(told, indent=2, default=str))
        return
    rows = table("name", "key", "state", "signs for", "made known by", "at")
    for one in found:
        served = inert(", ".join(services.get(one.identity, [])))
        rows.add_row(inert(one.name), one.identity[:SHOWN], one.state, served, inert(one.created_by), f"{one.created_at:%Y-%m-%d %H:%M}")
    console.print(rows if found else "No key is known yet. Each part makes its own when it starts.")


@app.command()
def revoke(
    reference: Annotated[str, typer.Argument(metavar="SIGNER", help="Its name, such as node:taichi, or the beginning of one key.")],
    as_json: AsJson = False,
) -> None:
    """Revoke the keys of a name, or one key.

    Within seconds workers put aside what it has signed. A part that still has it sends nothing more until its file is removed and it starts anew.
    """
    ended = take_away(lambda session: signers.revoke(session, reference), lambda ended: f"{reference} is revoked: {len(ended)} keys")
    if as_json:
        print_json(json.dumps([{"name": one.name, "identity": one.identity} for one in ended], indent=2))
        return
    for one in ended:
        console.print(inert(f"Revoked key {one.identity[:SHOWN]} of {one.name}."))
    console.print(
        "What it signed and what has not run is put aside: look at it with federation task list --quarantined, and send it again by redrive."
    )
