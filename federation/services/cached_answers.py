"""Answers of models, kept for who asks nearly the same again, within bounds; only for who asks to have it so, where the operator allows it.

Refuses to look beyond the conversation that is asked in: what was answered in one is given again to its members in it alone, and what was asked in
none to who asked it.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import NotFound
from federation.services import conversations
from federation.settings import settings, variable
from federation.store import event_log, turns
from federation.store.context import context
from federation.store.models.cached_answers import CachedAnswer
from federation.store.models.inference import ModelRun

_DROP = text("SELECT federation_drop_answers(:in_each, :in_all, CAST(:age AS interval))")
_AGE_S = sa.cast(func.extract("epoch", func.clock_timestamp() - CachedAnswer.created_at), sa.Double)


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that may be given again, and the prompt that it was an answer to."""

    execution_id: uuid.UUID
    by: str
    age_s: float
    prompt: str
    vector: bytes
    completion: str
    engine: str
    model: str
    model_digest: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """An answer that is kept, as an operator sees it."""

    execution_id: uuid.UUID
    conversation_id: str | None
    by: str
    model: str
    prompt: str
    completion: str
    created_at: datetime
    used_at: datetime


@dataclass(frozen=True, slots=True)
class Reused:
    """Out of which answer another one was taken."""

    execution_id: Annotated[uuid.UUID, Field(description="The question that a model answered.")]
    by: Annotated[str, Field(description="Who asked it.")]
    similarity: Annotated[float, Field(description="1: the same prompt.")]
    age_s: Annotated[float, Field(description="How long ago it was answered.")]


def wanted(session: Session, conversation_id: str | None, same: Mapping[str, Any], *, unfit: str | None) -> dict[str, Any]:
    """Return what tells a node where to look for an answer and where to keep its own; with `left_out` why it does neither.

    `same` is what must be the same beside the prompt, and `unfit` why this question is none for a cache. Raises NotFound for a conversation of which
    the caller is not a member.
    """
    if conversation_id is not None:
        conversations.require_member(session, conversation_id)
    if not settings().cached_answers:
        unfit = f"the operator has not allowed it ({variable('cached_answers')})"
    if unfit is not None:
        return {"left_out": unfit}
    if conversation_id == conversations.COMMONS:
        # Nobody may have said anything there.
        conversations.open_for(session, conversation_id, ())
    # Its readers too, so that what is found by it is for the same ones.
    readers = ["agent", context(session).actor] if conversation_id is None else ["conversation", conversation_id]
    key = hashlib.sha256(json.dumps([readers, same], sort_keys=True, default=str).encode()).hexdigest()
    return {"key": key, "conversation_id": conversation_id}


def kept(session: Session, key: str) -> Sequence[Kept]:
    """Return the answers that are kept under a key, as far as the caller may see them, the latest first."""
    names = ("execution_id", "prompt", "vector", "completion", "engine", "model", "model_digest")
    columns = [*(getattr(CachedAnswer, name) for name in names), CachedAnswer.created_by.label("by"), _AGE_S.label("age_s")]
    found = select(*columns).where(CachedAnswer.key == key, settings().cached_answer_s >= _AGE_S).order_by(CachedAnswer.created_at.desc())
    return [Kept(**row._asdict()) for row in session.execute(found)]


def keep(session: Session, *, key: str, conversation_id: str | None, prompt: str, vector: bytes) -> None:
    """Keep what the current execution has recorded as its answer, in the place of those that were used least lately where there is no room."""
    config, execution_id = settings(), context(session).execution_id
    session.flush()  # what was recorded may be new
    # Of two who add one at once the second must see what the first has added.
    turns.take(session, "cached answers")
    _drop(session, in_each=config.cached_answers_per_conversation - 1, in_all=config.cached_answers - 1)
    values = {"key": key, "conversation_id": conversation_id, "prompt": prompt, "vector": vector}
    names = ("execution_id", "completion", "engine", "model", "model_digest")
    answer = select(*(getattr(ModelRun, name) for name in names), *(sa.bindparam(name, value, type_=_type(name)) for name, value in values.items()))
    adding = insert(CachedAnswer).from_select([*names, *values], answer.where(ModelRun.execution_id == execution_id))
    added = session.execute(adding.on_conflict_do_nothing().returning(CachedAnswer.engine, CachedAnswer.model, CachedAnswer.model_digest)).first()
    if added is None:
        return
    told = {"key": key, "conversation_id": conversation_id, **added._asdict()}
    event_log.append(session, "answer.kept", f"execution:{execution_id}", payload=told)


def _type(name: str) -> Any:
    return CachedAnswer.__table__.columns[name].type


def use(session: Session, execution_id: uuid.UUID) -> None:
    """Note that an answer is given again, so that others make room before it."""
    used = sa.update(CachedAnswer).where(CachedAnswer.execution_id == execution_id)
    session.execute(used.values(used_at=func.clock_timestamp()))


def drop(session: Session) -> int:
    """Remove the answers that are too old, and those beyond the bounds, which may have been lowered; return how many."""
    turns.take(session, "cached answers")
    config = settings()
    return _drop(session, in_each=config.cached_answers_per_conversation, in_all=config.cached_answers)


def listed(session: Session, *, limit: int = 50) -> Sequence[Listed]:
    """Return the answers that are kept, those that were used last first, as far as the caller may see them."""
    names = ("execution_id", "conversation_id", "model", "prompt", "completion", "created_at", "used_at")
    columns = [*(getattr(CachedAnswer, name) for name in names), CachedAnswer.created_by.label("by")]
    found = select(*columns).order_by(CachedAnswer.used_at.desc(), CachedAnswer.execution_id).limit(limit)
    return [Listed(**row._asdict()) for row in session.execute(found)]


def remove(session: Session, answers: Sequence[uuid.UUID] | None) -> int:
    """Remove these answers before their time, all with None, as an operator may; return how many. Raises NotFound for one that is not there."""
    named = sa.true() if answers is None else CachedAnswer.execution_id.in_(answers)
    gone = list(session.scalars(sa.delete(CachedAnswer).where(named).returning(CachedAnswer.execution_id)))
    missing = sorted(map(str, set(answers or ()) - set(gone)))
    if missing:
        raise NotFound("cached answer", missing[0])
    return _told(session, gone)


def _drop(session: Session, *, in_each: int, in_all: int) -> int:
    age = timedelta(seconds=settings().cached_answer_s)
    return _told(session, list(session.scalars(_DROP, {"in_each": in_each, "in_all": in_all, "age": age})))


def _told(session: Session, dropped: Sequence[uuid.UUID]) -> int:
    if dropped:
        # Who made room for another answer tells of it where he tells of that.
        made_by = context(session).execution_id
        stream = "cached_answers" if made_by is None else f"execution:{made_by}"
        event_log.append(session, "answer.dropped", stream, payload={"execution_ids": dropped})
    return len(dropped)
