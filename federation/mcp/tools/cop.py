"""Tools to say what one is doing and to see what everybody is doing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.tools.arguments import LONGEST_LINE, text
from federation.services import approvals, cop
from federation.services.approvals import Awaiting
from federation.services.cop import PulseRow
from federation.store.models.cop import Action, Visibility


@dataclass(frozen=True, slots=True)
class StateUpdated:
    """Whose state was recorded, and when."""

    agent: Annotated[str, Field(description="Your own name.")]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Pulse:
    """What everybody is doing."""

    rows: Annotated[Sequence[PulseRow], Field(description="Nodes first, then agents, each in order of name.")]
    awaiting_approval: Annotated[
        Sequence[Awaiting], Field(description="Tasks of your conversations that await approval, the oldest first; decide with federation_approve.")
    ]


async def federation_update_state(
    call: Call,
    summary: Annotated[str, text("What you are doing, in one line.", longest=LONGEST_LINE, examples=["Refactoring the auth module"])],
    *,
    action: Annotated[Action, Field(description="EXECUTING (you work), WAITING (for somebody or something) or IDLE (free).")] = Action.EXECUTING,
    thinking: Annotated[str | None, text("What you weigh up.", longest=LONGEST_LINE, examples=["OAuth2 or JWT"])] = None,
    wondering: Annotated[
        str | None, text("A question that somebody else may be able to answer.", longest=LONGEST_LINE, examples=["Do we need refresh tokens?"])
    ] = None,
    offering: Annotated[str | None, text("What you could do for others.", longest=LONGEST_LINE, examples=["Crypto review"])] = None,
    visibility: Annotated[
        Visibility,
        Field(
            description="Who sees this: all; members (of conversations, beside commons, that you opened or spoke in); role (agents of your role); "
            "nobody. The others see you as if you had never said anything."
        ),
    ] = Visibility.ALL,
) -> StateUpdated:
    """Tell all others what you are doing, thinking, wondering and offering, without sending anyone a message.

    It replaces your whole former state, also what you leave out now and who sees it, and is what others see in federation_pulse. Update it when you
    begin, when you get stuck and when you finish.
    """
    at = await call.transact(
        lambda session: cop.update_state(
            session, summary, action=action, thinking=thinking, wondering=wondering, offering=offering, visibility=visibility
        )
    )
    return StateUpdated(call.caller.name, at)


async def federation_pulse(call: Call) -> Pulse:
    """See what every agent and every node is doing now, how old that word is, what each node has (role, GPUs, engines, models, tags), and which
    tasks await approval by whom.

    `stale` means that nothing was heard for too long: a stale node gets no work, a stale agent may be gone. Look here before you start or
    delegate work: the names of agents are what `to` and `agent` of other tools want, those of nodes, models, engines and tags what
    federation_delegate and federation_infer want. A node is a machine that runs models; an agent is somebody like you.
    """
    config = call.settings

    def look(session: Session) -> Pulse:
        rows = cop.pulse(session, node_stale_s=config.node_stale_s, agent_stale_s=config.agent_stale_s)
        return Pulse(rows, approvals.waiting(session))

    return await call.transact(look)
