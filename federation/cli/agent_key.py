"""`federation agent key`: makes public keys of agents known, lists and revokes them; sees no private key, and makes none."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from federation.cli.console import console, inert, print_json, table
from federation.cli.operator import take_away, transact
from federation.errors import InvalidInput
from federation.security.signing import PublicKey, parse_public
from federation.services import agent_keys
from federation.services.signers import SHOWN

app = typer.Typer(name="key", help="Keys that agents sign with.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)

_FROM_STDIN = "-"
# A public key in PEM has some 110 characters.
_LONGEST = 10_000

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the agent.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def add(
    name: Name,
    public_key: Annotated[str, typer.Argument(metavar="PUBLIC_KEY", help="File with an Ed25519 public key in PEM; - reads standard input.")],
    as_json: AsJson = False,
) -> None:
    """Make a public key of an agent known, beside those that it has.

    `federation mcp` makes one and makes it known by itself; this is for an agent that signs with a key of its own making.
    """
    key = _read(public_key)
    added = transact(lambda session: agent_keys.register(session, name, key))
    if as_json:
        print_json(json.dumps({**asdict(added), "state": added.state}, indent=2, default=str))
    elif added.revoked_at is None:
        console.print(
            inert(f"Key {added.identity[:SHOWN]} is {added.agent}'s. End it with: federation agent key revoke {name} {added.identity[:SHOWN]}")
        )
    else:
        console.print(inert(f"Key {added.identity[:SHOWN]} was revoked at {added.revoked_at:%Y-%m-%d %H:%M} and stays so: make another."))
    raise typer.Exit(0 if added.revoked_at is None else 1)


@app.command("list")
def list_keys(name: Name, as_json: AsJson = False) -> None:
    """List the keys of an agent, valid or revoked."""
    found = transact(lambda session: agent_keys.of(session, name))
    if as_json:
        print_json(json.dumps([{**asdict(one), "state": one.state} for one in found], indent=2, default=str))
        return
    rows = table("key", "state", "made known by", "at")
    for one in found:
        rows.add_row(one.identity[:SHOWN], one.state, inert(one.created_by), f"{one.created_at:%Y-%m-%d %H:%M}")
    console.print(rows if found else inert(f"{name} has no key yet. `federation mcp` makes one when it starts with {name}'s token."))


@app.command()
def revoke(
    name: Name,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Beginning of the key; left out: all keys of the agent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Revoke the keys of an agent, or one. What they signed before stays signed."""
    ended = take_away(lambda session: agent_keys.revoke(session, name, key), lambda ended: f"{len(ended)} keys of {name} are revoked")
    if as_json:
        print_json(json.dumps([{"name": one.agent, "identity": one.identity} for one in ended], indent=2))
        return
    for one in ended:
        console.print(inert(f"Revoked key {one.identity[:SHOWN]} of {one.agent}."))
    console.print(inert(f"Over HTTP a token of {name} makes no other key known; an operator does: federation agent key add {name} FILE"))
    console.print(inert(f"With the database's passwords it makes any known; to end the tokens, too: federation agent revoke {name}"))


def _read(where: str) -> PublicKey:
    try:
        text = sys.stdin.read(_LONGEST) if where == _FROM_STDIN else Path(where).read_text("utf-8")[:_LONGEST]
        return parse_public(text.encode())
    except OSError as error:
        raise InvalidInput("PUBLIC_KEY", where, f"a file that can be read ({error.strerror})") from error
    except ValueError as error:
        # It is not repeated here, because it may be a private one.
        raise InvalidInput("PUBLIC_KEY", where, "the public half of an Ed25519 key in PEM, as openssl pkey -pubout writes it") from error
