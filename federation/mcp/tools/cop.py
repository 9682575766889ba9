"""Tools to say what one is doing and to see what everybody is doing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field

from federation.mcp.door import Call
from federation.services import cop
from federation.services.cop import PulseRow
from federation.store.models.cop import Action


@dataclass(frozen=True, slots=True)
class StateUpdated:
    """Whose state was recorded, and when."""

    agent: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Pulse:
    """Nodes first, then agents, each in order of name."""

    rows: Sequence[PulseRow]


async def federation_update_state(
    call: Call,
    summary: Annotated[str, Field(description="What you are doing, in one line.")],
    *,
    action: Annotated[Action, Field(description="EXECUTING, IDLE or WAITING.")] = Action.EXECUTING,
    thinking: Annotated[str | None, Field(description="What you weigh up.")] = None,
    wondering: Annotated[str | None, Field(description="A question that somebody else may be able to answer.")] = None,
    offering: Annotated[str | None, Field(description="What you could do for others.")] = None,
) -> StateUpdated:
    """Tell all others what you are doing, thinking, wondering and offering, without sending anyone a message.

    It replaces your former state and is what others see in federation_pulse. Update it when you begin, get stuck and finish.
    """
    at = await call.transact(
        lambda session: cop.update_state(session, summary, action=action, thinking=thinking, wondering=wondering, offering=offering)
    )
    return StateUpdated(call.caller.name, at)


async def federation_pulse(call: Call) -> Pulse:
    """See what every agent and every node is doing now, how old that word is, and what each node has (role, GPUs, engines, models, tags).

    `stale` means that nothing was heard for too long. Look here before you start or delegate work.
    """
    config = call.settings
    return Pulse(await call.transact(lambda session: cop.pulse(session, node_stale_s=config.node_stale_s, agent_stale_s=config.agent_stale_s)))
