"""Nodes: announced with what the machine has, seen alive, gone; counts their unfinished work, sends none."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Integer, Row, Select, Text, and_, cast, func, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, defer

from federation.placement.node import Gpu, NodeView
from federation.results.tables import celery_results
from federation.services import past
from federation.store import event_log
from federation.store.context import context
from federation.store.models.executions import Delivery, Execution
from federation.store.models.nodes import Node

# Older work than this no longer counts as load: what never ended, because its queue was purged, say, must not count for ever.
COUNTED = timedelta(hours=1)

_ENDED = ("SUCCESS", "FAILURE", "REVOKED")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a worker says of its node when it starts; `missing` is what its file declares and the machine lacks."""

    name: str
    role: str
    tags: tuple[str, ...]
    engines: tuple[str, ...]
    models: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    missing: tuple[str, ...]
    concurrency: int
    hostname: str
    pid: int
    incarnation: uuid.UUID
    simulated: bool

    def view(self) -> NodeView:
        """Return the node as placement will see it."""
        return NodeView(
            name=self.name,
            role=self.role,
            tags=self.tags,
            engines=self.engines,
            models=self.models,
            gpus=self.gpus,
            concurrency=self.concurrency,
        )


@dataclass(frozen=True, slots=True)
class Load:
    """Executions of a node that are not finished."""

    running: int
    queued: int


def announce(session: Session, node: Announcement, *, stale_s: float | None = None) -> bool:
    """Record that a node lives and what it has.

    A former worker of the same name is replaced at once, or with `stale_s` only if it has left or gave no sign of life for so
    many seconds; False if it is not replaced. One that is replaced without having said that it leaves is told lost, unless it was told so already.
    """
    now = func.clock_timestamp()
    values: dict[str, Any] = {
        "role": node.role,
        "tags": list(node.tags),
        "engines": list(node.engines),
        "models": list(node.models),
        "gpus": [gpu.model_dump() for gpu in node.gpus],
        "missing": list(node.missing),
        "concurrency": node.concurrency,
        "hostname": node.hostname,
        "pid": node.pid,
        "incarnation": node.incarnation,
        "simulated": node.simulated,
    }
    row = {**values, "load": {}, "announced_at": now, "last_seen_at": now, "left_at": None, "lost_at": None, "updated_by": context(session).actor}
    replaceable = None if stale_s is None else or_(Node.incarnation == node.incarnation, ~_alive(stale_s))
    statement = insert(Node).values(name=node.name, **row).on_conflict_do_update(index_elements=["name"], set_=row, where=replaceable)
    # The former values come from the same statement: of two who announce themselves at once, each replaces another.
    former: list[ColumnElement[Any]] = [literal_column(f"old.{column}") for column in ("incarnation", "last_seen_at", "left_at", "lost_at")]
    replaced = session.execute(statement.returning(*former)).one_or_none()
    if replaced is None:
        return False
    incarnation, last_seen_at, left_at, lost_at = replaced
    if incarnation not in (None, node.incarnation) and left_at is None and lost_at is None:
        payload = {"incarnation": incarnation, "last_seen_at": last_seen_at, "replaced_by": node.incarnation}
        event_log.append(session, "node.lost", f"node:{node.name}", payload=payload)
        past.keep_presence(session, node.name, "gave no sign of life", gone=True, at=last_seen_at)
    event_log.append(session, "node.announced", f"node:{node.name}", payload=values)
    past.keep_presence(session, node.name, "announced itself", gone=False)
    return True


def rival(session: Session, node: Announcement, *, stale_s: float) -> tuple[str, int] | None:
    """Return host and process id of another worker of this name that gave a sign of life within `stale_s` seconds, None if there is none."""
    query = select(Node.hostname, Node.pid).where(Node.name == node.name, Node.incarnation != node.incarnation, _alive(stale_s))
    found = session.execute(query).one_or_none()
    return None if found is None else (found.hostname, found.pid)


def _alive(stale_s: float) -> ColumnElement[bool]:
    return and_(Node.left_at.is_(None), Node.last_seen_at > func.clock_timestamp() - timedelta(seconds=stale_s))


def sign_of_life(session: Session, name: str, incarnation: uuid.UUID, *, load: Mapping[str, Any]) -> bool:
    """Note that a worker lives; False if its node is unknown, has left or belongs to another worker now."""
    mine = (Node.name == name, Node.incarnation == incarnation, Node.left_at.is_(None))
    seen = update(Node).where(*mine).values(last_seen_at=func.clock_timestamp(), load=dict(load), lost_at=None)
    # The former value comes from the same statement: of two beats only one finds the node lost.
    former: Row[datetime | None] | None = session.execute(seen.returning(literal_column("old.lost_at"))).one_or_none()
    if former is None:
        return False
    [lost_at] = former
    if lost_at is not None:
        event_log.append(session, "node.returned", f"node:{name}", payload={"incarnation": incarnation, "lost_at": lost_at})
        past.keep_presence(session, name, "gives signs of life again", gone=False)
    return True


def record_lost(session: Session, *, stale_s: float) -> list[str]:
    """Note which nodes gave no sign of life for `stale_s` seconds; return those of which it was not known, in order."""
    silent = (Node.left_at.is_(None), Node.lost_at.is_(None), Node.last_seen_at <= func.clock_timestamp() - timedelta(seconds=stale_s))
    lost = update(Node).where(*silent).values(lost_at=func.clock_timestamp()).returning(Node.name, Node.incarnation, Node.last_seen_at)
    rows = sorted(session.execute(lost).all())
    for name, incarnation, last_seen_at in rows:
        event_log.append(session, "node.lost", f"node:{name}", payload={"incarnation": incarnation, "last_seen_at": last_seen_at})
        past.keep_presence(session, name, "gave no sign of life", gone=True)
    return [name for name, *_ in rows]


def leave(session: Session, name: str, incarnation: uuid.UUID) -> bool:
    """Note that a worker stops in good order; False if it had left, or if its node belongs to another worker now."""
    mine = (Node.name == name, Node.incarnation == incarnation, Node.left_at.is_(None))
    gone = session.scalar(update(Node).where(*mine).values(left_at=func.clock_timestamp()).returning(Node.name))
    if gone is None:
        return False
    event_log.append(session, "node.left", f"node:{name}", payload={"incarnation": incarnation})
    past.keep_presence(session, name, "left", gone=True)
    return True


def lives(name: str | ColumnElement[str], *, stale_s: float) -> ColumnElement[bool]:
    """Return a part of a query that tells whether this node has not left and gave a sign of life within `stale_s` seconds."""
    return select(Node.name).where(Node.name == name, _alive(stale_s)).exists()


def names(session: Session) -> Sequence[str]:
    """Return the names of all nodes that ever announced themselves, in order."""
    return session.scalars(select(Node.name).order_by(Node.name)).all()


def views(session: Session, *, stale_s: float) -> list[NodeView]:
    """Return all known nodes in order of name; alive is one that gave a sign of life within `stale_s` seconds."""
    unfinished = (
        select(Execution.node, func.count().label("count"))
        .outerjoin(celery_results, celery_results.c.task_id == cast(Execution.id, Text))
        .where(_counted(), celery_results.c.state.is_(None) | celery_results.c.state.not_in(_ENDED))
        .group_by(Execution.node)
        .subquery()
    )
    outstanding = cast(func.coalesce(unfinished.c.count, 0), Integer)
    rows = session.execute(select(Node, _alive(stale_s), outstanding).outerjoin(unfinished, unfinished.c.node == Node.name).order_by(Node.name))
    return [
        NodeView(
            name=node.name,
            role=node.role,
            tags=tuple(node.tags),
            engines=tuple(node.engines),
            models=tuple(node.models),
            gpus=tuple(Gpu.model_validate(gpu) for gpu in node.gpus),
            concurrency=node.concurrency,
            alive=lives,
            outstanding=count,
        )
        for node, lives, count in rows
    ]


def load(session: Session, name: str) -> Load:
    """Return how much unfinished work of this node runs, and how much waits in its queue."""
    started = select(Delivery.execution_id).where(Delivery.execution_id == Execution.id).exists()
    rows = session.execute(
        select(started, func.count())
        .select_from(Execution)
        .outerjoin(celery_results, celery_results.c.task_id == cast(Execution.id, Text))
        .where(Execution.node == name, _counted(), celery_results.c.state.is_(None) | celery_results.c.state.not_in(_ENDED))
        .group_by(started)
    )
    counts: dict[bool, int] = {has_started: count for has_started, count in rows}  # noqa: C416 - rows are no pairs to mypy
    return Load(running=counts.get(True, 0), queued=counts.get(False, 0))


def movable(session: Session, name: str) -> Sequence[Execution]:
    """Return the unfinished executions of this node that were not asked of it by name, without their arguments, which may be large."""
    query = _sent_to(name).where(Execution.requirements["node"].astext.is_distinct_from(name))
    return session.scalars(query.options(defer(Execution.kwargs, raiseload=True))).all()


def sent_to(session: Session, name: str, execution_id: uuid.UUID) -> Execution | None:
    """Return this execution if it is unfinished and was sent to this node; nobody changes it until the commit."""
    return session.scalars(_sent_to(name).where(Execution.id == execution_id).with_for_update(of=Execution)).one_or_none()


def sent_among(session: Session, name: str, execution_ids: Collection[uuid.UUID]) -> Sequence[Execution]:
    """Return those of these executions that are unfinished and were sent to this node; nobody changes them until the commit."""
    return session.scalars(_sent_to(name).where(Execution.id.in_(execution_ids)).with_for_update(of=Execution)).all()


def _sent_to(name: str) -> Select[Execution]:
    ended = celery_results.c.state
    query = select(Execution).outerjoin(celery_results, celery_results.c.task_id == cast(Execution.id, Text))
    return query.where(Execution.node == name, _unfinished(), ended.is_(None) | ended.not_in(_ENDED))


def _unfinished() -> ColumnElement[bool]:
    return and_(Execution.outcome.is_(None), Execution.cancelled_at.is_(None))


def _counted() -> ColumnElement[bool]:
    # Those whose end is noted are left out by the index; those that ended a moment ago are not noted yet.
    return and_(_unfinished(), Execution.sent_at > func.clock_timestamp() - COUNTED)
