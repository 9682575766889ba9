"""Step 2: three agents with tokens of their own connect to the front door over HTTP."""

from fastmcp import Client
from sqlalchemy.orm import Session

from federation.cli.demo.stage import Stage, check, heading, said
from federation.delivery.runtime import transactions
from federation.errors import NotFound
from federation.services import agents

CAST = {"ada": "lead", "bob": "developer", "eve": "analyst"}


def token(session: Session, name: str, role: str) -> str:
    """Return a fresh token of an agent, who is added at the first demo."""
    try:
        agents.get(session, name)
    except NotFound:
        return agents.add(session, name, role)
    return agents.rotate(session, name)


async def connect(stage: Stage) -> None:
    """Give each agent a token and a client, and let the front door tell who they are."""
    heading(2, "Three agents connect to the front door, each with a token of its own")
    url = f"http://{stage.settings.mcp_host}:{stage.settings.mcp_port}/mcp"
    with transactions().begin("cli:demo") as session:
        tokens = {name: token(session, name, role) for name, role in CAST.items()}
    for name, secret in tokens.items():
        stage.clients[name] = await stage.stack.enter_async_context(Client(url, auth=secret))
        tools = await stage.clients[name].list_tools()
        updated = await stage.call(name, "federation_update_state", summary="joining the demo", action="IDLE")
        said(name, "tools/list", f"{len(tools)} tools; the front door knows the caller as {updated['agent']} ({CAST[name]})")
        check(updated["agent"] == name, f"{name} is known from the token alone", quiet=True)
    known = {row.name: row.role for row in stage.sql("select name, role from agents where name = any(%s)", list(CAST))}
    check(known == CAST, "the three are in the database with their roles")
    check(
        stage.one("select count(distinct stream) from events where type = 'agent.token_issued' and created_at >= %s", stage.started_at) >= len(CAST),
        "each token has an event",
    )
