"""Step 2: three agents with tokens of their own connect to the front door over HTTP."""

from datetime import timedelta

from fastmcp import Client
from sqlalchemy.orm import Session

from federation.cli.demo.stage import ADA, BOB, CONVERSATION, EVE, DemoFailed, Stage, check, heading, said
from federation.delivery.runtime import transactions
from federation.errors import NotFound
from federation.local.certificates import Certificates
from federation.local.home import Home
from federation.mcp.where import mcp_url
from federation.services import agents

CAST = {ADA: "lead", BOB: "developer", EVE: "analyst"}
# Each demo gives new ones.
LASTING = timedelta(days=1)
# Not the name of an agent, because of the colon: who was added by this name is the demo's own.
ACTOR = "service:demo"


def token(session: Session, name: str, role: str) -> str:
    """Return a fresh token of an agent, who is added at the first demo. Raises DemoFailed for an agent that somebody else added."""
    try:
        added_by = agents.get(session, name).created_by
    except NotFound:
        return agents.add(session, name, role, label="demo", lasting=LASTING)
    if added_by != ACTOR:
        raise DemoFailed(f"the agent {name} is not the demo's: {added_by} added it; set FEDERATION_DATA_DIR to a folder for the demo alone")
    return agents.rotate(session, name, lasting=LASTING)


def leave_others_alone(stage: Stage) -> None:
    """Pass if the conversation of the demo is not somebody else's. Raises DemoFailed."""
    strangers = stage.sql("select agent from conversation_members where conversation_id = %s and agent <> all(%s)", CONVERSATION, list(CAST))
    if strangers:
        names = ", ".join(row.agent for row in strangers)
        raise DemoFailed(f"the conversation {CONVERSATION} belongs to {names}; set FEDERATION_DATA_DIR to a folder for the demo alone")


async def connect(stage: Stage) -> None:
    """Give each agent a token and a client, and let the front door tell who they are."""
    heading(2, "Three agents connect to the front door, each with a token of its own")
    leave_others_alone(stage)
    url = mcp_url(stage.settings)
    trusted = Certificates(Home(stage.settings.data_dir).tls_dir).client_context() if stage.settings.tls else None
    with transactions().begin(ACTOR) as session:
        tokens = {name: token(session, name, role) for name, role in CAST.items()}
    for name, secret in tokens.items():
        stage.clients[name] = await stage.stack.enter_async_context(Client(url, auth=secret, verify=trusted))
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
