"""`federation agent`: adds agents, gives and takes tokens, prints what MCP clients need; shows no token twice."""

import getpass
import json
import socket
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from rich.table import Table
from sqlalchemy.orm import Session

from federation.cli.console import console, errors, print_json
from federation.cli.mcp_clients import FILES, Client, configuration
from federation.delivery.runtime import transactions
from federation.services import agents
from federation.settings import settings

T = TypeVar("T")

app = typer.Typer(name="agent", help="Add agents, give and take tokens.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="Name of the agent.")]
Role = Annotated[str, typer.Option("--role", help="lead, developer, analyst, human, observer or service.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _transact(work: Callable[[Session], T]) -> T:
    with transactions().begin(f"cli:{getpass.getuser()}") as session:
        return work(session)


def _show_token(name: str, role: str, token: str, *, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps({"name": name, "role": role, "token": token}))
        return
    print_json(token)
    errors.print(f"This is the token of {name} ({role}). It is shown this once.")
    errors.print(f"Connect an MCP client with: federation agent config {name} --client claude-code --token …")


@app.command()
def add(name: Name, role: Role, as_json: AsJson = False) -> None:
    """Add an agent and print its token, this once."""
    _show_token(name, role, _transact(lambda session: agents.add(session, name, role)), as_json=as_json)


@app.command("list")
def list_agents(as_json: AsJson = False) -> None:
    """List all agents."""
    found = _transact(agents.everybody)
    if as_json:
        rows = [{"name": row.name, "role": row.role, "created_by": row.created_by, "created_at": row.created_at.isoformat()} for row in found]
        print_json(json.dumps(rows, indent=2))
        return
    table = Table("agent", "role", "added by", "added at", box=None, pad_edge=False, header_style="bold")
    for row in found:
        table.add_row(row.name, row.role, row.created_by, f"{row.created_at:%Y-%m-%d %H:%M}")
    console.print(table)


@app.command()
def rotate(name: Name, as_json: AsJson = False) -> None:
    """Revoke all tokens of an agent and print a new one, this once."""

    def work(session: Session) -> tuple[str, str]:
        return agents.get(session, name).role, agents.rotate(session, name)

    role, token = _transact(work)
    _show_token(name, role, token, as_json=as_json)


@app.command()
def revoke(name: Name) -> None:
    """Revoke all tokens of an agent; the front door turns it away within seconds."""
    count = _transact(lambda session: agents.revoke(session, name))
    console.print(f"{name}: {count} {'token' if count == 1 else 'tokens'} revoked. Give it a new one with: federation agent rotate {name}")


@app.command()
def config(
    name: Name,
    client: Annotated[Client, typer.Option("--client", help="For which MCP client.")] = Client.CLAUDE_CODE,
    token: Annotated[str | None, typer.Option("--token", help="The agent's token, as `add` or `rotate` printed it.")] = None,
) -> None:
    """Print the lines that an MCP client needs to connect as this agent."""
    _transact(lambda session: agents.get(session, name))
    errors.print(f"For {FILES[client]}:")
    if token is None:
        errors.print(f"Put the token of {name} in; if it is lost: federation agent rotate {name}")
    print_json(configuration(client, url=_mcp_url(), token=token or f"TOKEN-OF-{name}"))


def _mcp_url() -> str:
    given = settings()
    everywhere = given.mcp_host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    return f"http://{socket.gethostname() if everywhere else given.mcp_host}:{given.mcp_port}/mcp"
