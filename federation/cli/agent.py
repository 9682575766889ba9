"""`federation agent`: adds agents, gives and takes tokens, prints what MCP clients need; shows no token twice, and takes none as an argument."""

import getpass
import json
import sys
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from rich.markup import escape
from sqlalchemy.orm import Session

from federation.cli.addresses import mcp_url
from federation.cli.console import console, errors, print_json, table
from federation.cli.mcp_clients import FILES, Client, configuration
from federation.delivery.runtime import transactions
from federation.errors import InvalidInput, Refused
from federation.local.elsewhere import check_database
from federation.services import agents
from federation.settings import settings

T = TypeVar("T")

_FROM_STDIN = "-"

app = typer.Typer(
    name="agent", help="Add agents, give and take tokens, configure MCP clients.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the agent.")]
Role = Annotated[str, typer.Option("--role", metavar="ROLE", help="lead, developer, analyst, human, observer or service.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _transact(work: Callable[[Session], T]) -> T:
    check_database(settings())
    with transactions().begin(f"cli:{getpass.getuser()}") as session:
        return work(session)


def _show_token(name: str, role: str, token: str, *, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps({"name": name, "role": role, "token": token}))
        return
    print_json(token)
    errors.print(f"This is the token of {name} ({role}). It is shown this once; keep it.")
    errors.print(f"Connect an MCP client with: federation agent config {name} --client claude-code --token -   (and give it the token there)")


@app.command()
def add(name: Name, role: Role, as_json: AsJson = False) -> None:
    """Add an agent and print its token, this once."""
    _show_token(name, role, _transact(lambda session: agents.add(session, name, role)), as_json=as_json)


@app.command("list")
def list_agents(as_json: AsJson = False) -> None:
    """List all agents."""
    found = _transact(agents.everybody)
    if as_json:
        told = [{"name": row.name, "role": row.role, "created_by": row.created_by, "created_at": row.created_at.isoformat()} for row in found]
        print_json(json.dumps(told, indent=2))
        return
    rows = table("agent", "role", "added by", "added at")
    for row in found:
        rows.add_row(row.name, row.role, escape(row.created_by), f"{row.created_at:%Y-%m-%d %H:%M}")
    console.print(rows if found else "There is no agent yet. Add one with: federation agent add NAME --role ROLE")


@app.command()
def rotate(name: Name, as_json: AsJson = False) -> None:
    """Revoke all tokens of an agent and print a new one, this once."""

    def work(session: Session) -> tuple[str, str]:
        return agents.get(session, name).role, agents.rotate(session, name)

    role, token = _transact(work)
    _show_token(name, role, token, as_json=as_json)


@app.command()
def revoke(name: Name, as_json: AsJson = False) -> None:
    """Revoke all tokens of an agent. The front door turns it away within seconds."""
    count = _transact(lambda session: agents.revoke(session, name))
    if as_json:
        print_json(json.dumps({"name": name, "revoked": count}))
        return
    console.print(f"{name}: {count} {'token' if count == 1 else 'tokens'} revoked. Give it a new one with: federation agent rotate {name}")


@app.command()
def config(
    name: Name,
    client: Annotated[Client, typer.Option("--client", help="For which MCP client.")] = Client.CLAUDE_CODE,
    token: Annotated[
        str | None,
        typer.Option("--token", metavar=_FROM_STDIN, help="Read the token from standard input; unset: FEDERATION_TOKEN, or a place to fill in."),
    ] = None,
) -> None:
    """Print the lines that connect an MCP client.

    They go to standard output; where to put them is said on standard error.
    """
    secret = _secret(token)
    _transact(lambda session: _check(session, name, secret))
    errors.print(f"For {FILES[client]}:")
    if secret is None:
        errors.print(f"Put the token of {name} in; if it is lost: federation agent rotate {name}")
    else:
        errors.print("The lines hold the token: keep them out of version control.")
    print_json(configuration(client, url=mcp_url(settings(), for_others=True), token=secret or f"TOKEN-OF-{name}"))


def _secret(option: str | None) -> str | None:
    if option is None:
        given = settings().token
        return given.get_secret_value() if given else None
    if option != _FROM_STDIN:
        # It is not repeated here, because it may be a token.
        wants = f"{_FROM_STDIN} with the token on standard input, or FEDERATION_TOKEN: everybody on this machine can read a command line"
        raise InvalidInput("--token", "something else", wants)
    return getpass.getpass("Token: ").strip() if sys.stdin.isatty() else sys.stdin.readline().strip()


def _check(session: Session, name: str, secret: str | None) -> None:
    agents.get(session, name)
    if secret is not None and (owner := agents.authenticate(session, secret).name) != name:
        raise Refused("A token speaks for one agent:", f"this one is {owner}'s, not {name}'s.")
