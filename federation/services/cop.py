"""The common operating picture: what agents say they do, and what nodes are seen doing."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import Field
from sqlalchemy import Boolean, ColumnElement, bindparam, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.foreign import visible
from federation.placement.node import Gpu
from federation.services import agents, capabilities, limits, nodes, past, requests
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.models.agents import Agent
from federation.store.models.cop import THIS_TRANSACTION, Action, CopState, PastState, SubjectKind, Visibility
from federation.store.models.nodes import Node

# An agent or a node, by kind and name; nodes stand first, each in order of name.
Place = tuple[str, str]
_SUBJECT = TypeVar("_SUBJECT", Agent, Node)
# A snapshot and not a time: what was written before it and committed after it has changed too.
_UNSEEN = text("NOT pg_visible_in_snapshot(changed_in::text::xid8, CAST(:since AS pg_snapshot))")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node announced of itself, and its last words."""

    gpus: list[Gpu]
    engines: list[str]
    models: list[str]
    tags: list[str]
    missing: Annotated[list[str], Field(description="What its file declares and the machine lacks.")]
    load: Annotated[dict[str, int], Field(description="Executions in its worker: running, and reserved behind them.")]
    queue: Annotated[int | None, Field(description="Executions that were sent to it and have not begun, at its last heartbeat.")]
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
    capabilities: Annotated[Sequence[str], Field(description="What it says it can do: ask it with to='capability:…'.")]
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
    able: Sequence[str] | None = None,
) -> datetime:
    """Record what the calling agent is doing, for those who may see it; return when.

    `able` is all that it can do from now on, by name; None: as before. Raises InvalidInput, RateLimited.
    """
    actor = context(session).actor
    agents.require(summary, "summary")
    if action not in set(Action):
        raise InvalidInput("action", action, "one of " + ", ".join(Action))
    if visibility not in set(Visibility):
        raise InvalidInput("visibility", visibility, "one of " + ", ".join(Visibility))
    limits.state_update(session)
    said = {"summary": summary, "thinking": thinking, "wondering": wondering, "offering": offering}
    at, _ = _record(session, SubjectKind.AGENT, actor, told=True, action=action, visibility=visibility, **said)
    # The log may be read by more than those whom it is for.
    told = {"action": action, "visibility": visibility, "said_sha256": _digest(said)} | (said if visibility == Visibility.ALL else {})
    event_log.append(session, "agent.state_updated", f"agent:{actor}", payload=told)
    if able is not None and capabilities.declare(session, able):
        requests.hand_on(session, actor)
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
    _, former = _record(session, SubjectKind.NODE, node, told=False, **values)
    if former != values["action"]:
        event_log.append(session, "node.state_changed", f"node:{node}", payload=values)


# Over the former one, and among what was said or done before; of what is not `told`, a sign of life, only where the action has changed.
_SAY = text(
    f"""
    WITH said AS (
        INSERT INTO cop_states (kind, subject, summary, action, thinking, wondering, offering, data, visibility, updated_by)
        VALUES (:kind, :subject, :summary, :action, :thinking, :wondering, :offering, CAST(:data AS jsonb), :visibility, :me)
        ON CONFLICT (kind, subject) DO UPDATE SET
            summary = excluded.summary, action = excluded.action, thinking = excluded.thinking, wondering = excluded.wondering,
            offering = excluded.offering, data = excluded.data, visibility = excluded.visibility, updated_by = excluded.updated_by,
            updated_at = clock_timestamp(),
            changed_in = CASE WHEN :told OR cop_states.action <> excluded.action THEN {THIS_TRANSACTION.text} ELSE cop_states.changed_in END
        RETURNING updated_at, old.action AS former
    ), kept AS (
        INSERT INTO cop_history (kind, subject, summary, action, thinking, wondering, offering, data, visibility, at, updated_by)
        SELECT :kind, :subject, :summary, :action, :thinking, :wondering, :offering, CAST(:data AS jsonb), :visibility, updated_at, :me
        FROM said WHERE :told OR former IS DISTINCT FROM :action
    )
    SELECT updated_at, former FROM said
    """  # noqa: S608 - it is ours
).bindparams(bindparam("told", type_=Boolean))


def _record(session: Session, kind: SubjectKind, subject: str, *, told: bool, **said: Any) -> tuple[datetime, str | None]:
    """Write a state over the former one, keep it, and wake those who watch; return when, and the former action."""
    values = {"thinking": None, "wondering": None, "offering": None, "data": {}, "visibility": Visibility.ALL, **said}
    row = {"kind": kind, "subject": subject, "told": told, "me": context(session).actor, **values, "data": json.dumps(values["data"])}
    at, former = session.execute(_SAY, row).one()
    notify(session, [past.PULSE])
    return at, former


def pulse(
    session: Session,
    *,
    node_stale_s: float,
    agent_stale_s: float,
    since: str | None = None,
    behind: Place | None = None,
    limit: int | None = None,
) -> list[PulseRow]:
    """Return a row for each agent and node, in the order of their places: those behind a place, and at most so many, if that is said.

    `since` is a snapshot: then only those whom the caller sees and who have said something since, and nodes that have come, gone, begun or ceased
    to work. Raises sqlalchemy.exc.DataError for one that PostgreSQL does not know.
    """
    now = context(session).now()
    query = select(CopState) if since is None else select(CopState).where(_UNSEEN.bindparams(since=since))
    states = {(state.kind, state.subject): state for state in session.scalars(query)}
    among = None if since is None else states.keys()
    if among is not None and not among:
        return []
    able = capabilities.of_all(session)
    rows = []
    for node in _next(session, Node, SubjectKind.NODE, among=among, behind=behind, limit=limit):
        state = states.get((SubjectKind.NODE, node.name))
        since_s = (now - node.last_seen_at).total_seconds()
        stale = node.left_at is not None or since_s > node_stale_s
        facts = NodeFacts(
            [Gpu.model_validate(gpu) for gpu in node.gpus],
            node.engines,
            node.models,
            node.tags,
            node.missing,
            node.load,
            state.data.get("queued") if state else None,
            state.updated_at if state else None,
        )
        rows.append(_row(SubjectKind.NODE, node, state, age_s=since_s, stale=stale, facts=facts))
    left = None if limit is None else limit - len(rows)
    for agent in _next(session, Agent, SubjectKind.AGENT, among=among, behind=behind, limit=left):
        state = states.get((SubjectKind.AGENT, agent.name))
        since_s = (now - (state.updated_at if state else agent.created_at)).total_seconds()
        rows.append(_row(SubjectKind.AGENT, agent, state, age_s=since_s, stale=since_s > agent_stale_s, able=able.get(agent.name, ())))
    return rows


def _next(
    session: Session,
    model: type[_SUBJECT],
    kind: SubjectKind,
    *,
    among: Collection[Place] | None,
    behind: Place | None,
    limit: int | None,
    only: ColumnElement[bool] | None = None,
) -> Sequence[_SUBJECT]:
    """Return the next agents or nodes behind a place, in order of name."""
    query = select(model).order_by(model.name).limit(limit)
    if only is not None:
        query = query.where(only)
    if behind is not None and behind[0] == kind:
        query = query.where(model.name > behind[1])
    elif behind is not None and kind == SubjectKind.NODE:
        # Agents stand behind all nodes.
        return []
    if among is not None:
        query = query.where(model.name.in_([name for each, name in among if each == kind]))
    return session.scalars(query).all()


def pulse_at(session: Session, at: datetime, *, agent_stale_s: float, behind: Place | None = None, limit: int | None = None) -> list[PulseRow]:
    """Return the same as it was at a moment, as far as those whom it was shown to then are who asks now.

    Of nodes it tells whether they worked and were there; what they had is not kept, nor what agents said that they can do.
    """
    latest = (
        select(PastState)
        .ext(distinct_on(PastState.kind, PastState.subject))
        .where(PastState.at <= at)
        .order_by(PastState.kind, PastState.subject, PastState.at.desc(), PastState.sequence.desc())
    )
    states = {(state.kind, state.subject): state for state in session.scalars(latest)}
    rows = []
    for node in _next(session, Node, SubjectKind.NODE, among=states.keys(), behind=behind, limit=limit):
        state = states.get((SubjectKind.NODE, node.name))
        if state is not None:
            gone = bool(state.data.get(past.GONE))
            rows.append(_row(SubjectKind.NODE, node, state, age_s=(at - state.at).total_seconds(), stale=gone))
    left = None if limit is None else limit - len(rows)
    for agent in _next(session, Agent, SubjectKind.AGENT, among=None, behind=behind, limit=left, only=Agent.created_at <= at):
        state = states.get((SubjectKind.AGENT, agent.name))
        since_s = (at - (state.at if state else agent.created_at)).total_seconds()
        rows.append(_row(SubjectKind.AGENT, agent, state, age_s=since_s, stale=since_s > agent_stale_s))
    return rows


def table(rows: Sequence[PulseRow]) -> str:
    """Return the pulse as a table in Markdown: a line for each, as the whitepaper draws it, with what each wonders and how old it is."""
    head = ("Agent", "Status", "Doing", "Thinking", "Wondering", "Offering", "Age")
    lines = [head, ["---"] * len(head)]
    for row in rows:
        status = f"{row.status} (stale)" if row.stale else row.status.value
        offering = "; ".join(filter(None, [row.offering, ", ".join(row.capabilities)]))
        cells = (row.name, status, row.summary, row.thinking, row.wondering, offering, age(row.age_s))
        # What an agent says cannot draw lines or cells of its own, nor command a terminal.
        lines.append([visible(" ".join((cell or "—").split())).replace("|", "\\|") for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def age(seconds: float) -> str:
    """Return in few words how old a word is."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _row(
    kind: SubjectKind,
    subject: Agent | Node,
    state: CopState | PastState | None,
    *,
    age_s: float,
    stale: bool,
    facts: NodeFacts | None = None,
    able: Sequence[str] = (),
) -> PulseRow:
    return PulseRow(
        kind=kind,
        name=subject.name,
        role=subject.role,
        status=Action(state.action) if state else Action.IDLE,
        summary=state.summary if state else "",
        thinking=state.thinking if state else None,
        wondering=state.wondering if state else None,
        offering=state.offering if state else None,
        capabilities=list(able),
        age_s=round(age_s, 3),
        stale=stale,
        node=facts,
    )
