"""The common operating picture: what agents say they do, and what nodes are seen doing."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.placement.node import Gpu
from federation.services import agents, nodes
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.models.agents import Agent
from federation.store.models.cop import Action, CopState, SubjectKind, Visibility
from federation.store.models.nodes import Node

PULSE = "pulse"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node announced of itself, and its last words."""

    gpus: list[Gpu]
    engines: list[str]
    models: list[str]
    tags: list[str]
    missing: Annotated[list[str], Field(description="What its file declares and the machine lacks.")]
    load: Annotated[dict[str, int], Field(description="Executions in its worker: running, and reserved behind them.")]
    heartbeat_at: Annotated[datetime | None, Field(description="When it last ran beat's heartbeat; null: not yet.")]


@dataclass(frozen=True, slots=True)
class PulseRow:
    """One agent or node."""

    kind: SubjectKind
    name: str
    role: Annotated[str, Field(description="lead, developer, analyst …; work for a role goes to a node, or an agent, of that role.")]
    status: Action
    summary: Annotated[str, Field(description="What it is doing; empty: it never said.")]
    thinking: str | None
    wondering: str | None
    offering: str | None
    age_s: Annotated[float, Field(description="Seconds since its last word, or, of an agent that never said one, since it was added.")]
    stale: Annotated[bool, Field(description="That is too long ago, or the node has left.")]
    node: Annotated[NodeFacts | None, Field(description="What a node has; null for an agent.")]


def update_state(
    session: Session,
    summary: str,
    *,
    action: str = Action.EXECUTING,
    thinking: str | None = None,
    wondering: str | None = None,
    offering: str | None = None,
    visibility: str = Visibility.ALL,
) -> datetime:
    """Record what the calling agent is doing, for those who may see it; return when. Raises InvalidInput for an unknown action or visibility."""
    actor = context(session).actor
    agents.require(summary, "summary")
    if action not in set(Action):
        raise InvalidInput("action", action, "one of " + ", ".join(Action))
    if visibility not in set(Visibility):
        raise InvalidInput("visibility", visibility, "one of " + ", ".join(Visibility))
    said = {"summary": summary, "thinking": thinking, "wondering": wondering, "offering": offering}
    values: dict[str, Any] = {**said, "action": action, "data": {}, "visibility": visibility}
    at, _ = _record(session, SubjectKind.AGENT, actor, values)
    # The log may be read by more than those whom it is for.
    told = {"action": action, "visibility": visibility, "said_sha256": _digest(said)} | (said if visibility == Visibility.ALL else {})
    event_log.append(session, "agent.state_updated", f"agent:{actor}", payload=told)
    return at


def _digest(said: Mapping[str, str | None]) -> str:
    # As PostgreSQL writes it too, so that replay can compare it.
    return hashlib.sha256("".join(f"{name}={len(text)}:{text};" for name, text in said.items() if text is not None).encode()).hexdigest()


def record_heartbeat(session: Session, node: str) -> None:
    """Record what a node is doing; an event where it begins or ceases to work, for the rest is a sign of life."""
    load = nodes.load(session, node)
    values = {
        "summary": f"{load.running} running, {load.queued} queued",
        "action": Action.EXECUTING if load.running else Action.IDLE,
        "data": {"running": load.running, "queued": load.queued},
    }
    _, former = _record(session, SubjectKind.NODE, node, values)
    if former != values["action"]:
        event_log.append(session, "node.state_changed", f"node:{node}", payload=values)


def _record(session: Session, kind: SubjectKind, subject: str, values: dict[str, Any]) -> tuple[datetime, str | None]:
    """Write a state over the former one, and wake those who watch; return when, and the former action."""
    row = {**values, "updated_by": context(session).actor}
    statement = insert(CopState).values(kind=kind, subject=subject, **row)
    statement = statement.on_conflict_do_update(index_elements=["kind", "subject"], set_={**row, "updated_at": func.clock_timestamp()})
    former: str | None
    at, former = session.execute(statement.returning(CopState.updated_at, literal_column("old.action"))).one()
    notify(session, [PULSE])
    return at, former


def pulse(session: Session, *, node_stale_s: float, agent_stale_s: float) -> list[PulseRow]:
    """Return a row for each agent and node: nodes first, then agents, in order of name."""
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    states = {(state.kind, state.subject): state for state in session.scalars(select(CopState))}
    rows = []
    for node in session.scalars(select(Node).order_by(Node.name)):
        state = states.get((SubjectKind.NODE, node.name))
        age = (now - node.last_seen_at).total_seconds()
        stale = node.left_at is not None or age > node_stale_s
        facts = NodeFacts(
            [Gpu.model_validate(gpu) for gpu in node.gpus],
            node.engines,
            node.models,
            node.tags,
            node.missing,
            node.load,
            state.updated_at if state else None,
        )
        rows.append(_row(SubjectKind.NODE, node, state, age_s=age, stale=stale, facts=facts))
    for agent in session.scalars(select(Agent).order_by(Agent.name)):
        state = states.get((SubjectKind.AGENT, agent.name))
        age = (now - (state.updated_at if state else agent.created_at)).total_seconds()
        rows.append(_row(SubjectKind.AGENT, agent, state, age_s=age, stale=age > agent_stale_s))
    return rows


def _row(kind: SubjectKind, subject: Agent | Node, state: CopState | None, *, age_s: float, stale: bool, facts: NodeFacts | None = None) -> PulseRow:
    return PulseRow(
        kind=kind,
        name=subject.name,
        role=subject.role,
        status=Action(state.action) if state else Action.IDLE,
        summary=state.summary if state else "",
        thinking=state.thinking if state else None,
        wondering=state.wondering if state else None,
        offering=state.offering if state else None,
        age_s=round(age_s, 3),
        stale=stale,
        node=facts,
    )
