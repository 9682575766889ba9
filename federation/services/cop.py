"""The common operating picture: what agents say they do, and what nodes are seen doing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import ColumnElement, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.placement.node import Gpu
from federation.services import agents
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.models.agents import Agent
from federation.store.models.cop import Action, CopState, SubjectKind
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
) -> datetime:
    """Record what the calling agent is doing; return when. Raises InvalidInput for an unknown action."""
    actor = context(session).actor
    agents.require(summary, "summary")
    if action not in set(Action):
        raise InvalidInput("action", action, "one of " + ", ".join(Action))
    values: dict[str, Any] = {"summary": summary, "action": action, "thinking": thinking, "wondering": wondering, "offering": offering, "data": {}}
    at = record(session, SubjectKind.AGENT, actor, values).at
    event_log.append(session, "agent.state_updated", f"agent:{actor}", payload=values)
    return at


@dataclass(frozen=True, slots=True)
class Written:
    """When a state was written, and whether that changed what its subject is doing."""

    at: datetime
    changed: bool


def record(session: Session, kind: SubjectKind, subject: str, values: dict[str, Any]) -> Written:
    """Write the state of an agent or node over the former one, and wake those who watch."""
    row = {**values, "updated_by": context(session).actor}
    statement = insert(CopState).values(kind=kind, subject=subject, **row)
    statement = statement.on_conflict_do_update(index_elements=["kind", "subject"], set_={**row, "updated_at": func.clock_timestamp()})
    # What was there before comes from the same statement, so that of two writers at once only one sees the change.
    changed: ColumnElement[bool] = literal_column("old.action IS DISTINCT FROM new.action")
    written = session.execute(statement.returning(CopState.updated_at, changed)).one()
    notify(session, [PULSE])
    return Written(*written)


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
