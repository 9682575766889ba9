"""What one agent may do in a while, so that one that runs wild leaves room for the others; counted in PostgreSQL, and so the same at each door.

Refuses to count in memory: what a restart forgets, or another front door does not know, limits nobody.
"""

import math
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Integer, Select, bindparam, func, select, text
from sqlalchemy.orm import Session

from federation.errors import OverQuota, RateLimited
from federation.settings import settings, variable
from federation.store import turns
from federation.store.context import context
from federation.store.models.claims import Claim
from federation.store.models.memories import Memory
from federation.store.models.tasks import ENDED, AgentTask

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class Kind(StrEnum):
    """What is counted by its rate."""

    MESSAGES = "messages"
    STATES = "states"
    SEARCHES = "searches"
    INDEXINGS = "indexings"
    MEMORIES = "memories"
    INFERENCE_TOKENS = "inference_tokens"
    ARTIFACT_BYTES = "artifact_bytes"


# A small file takes a block of its disk too, and a row.
LEAST_BYTES = 4096


# The generic cell rate algorithm (ITU-T I.371): a row holds the moment at which all that was taken has come back. It is one statement, so that
# of two who take the last at once one waits for the row of the other, and is refused. What lies further ahead than can be taken was written beside
# the program, and counts as nothing, or it would silence somebody for ever.
_USED = """
    CASE WHEN allowances.used_until <= clock_timestamp() + 2 * CAST(:period AS interval) THEN greatest(allowances.used_until, clock_timestamp())
        ELSE clock_timestamp() END + CAST(:cost AS interval)
"""
_TAKE = text(
    f"""
    INSERT INTO allowances (agent, kind, used_until) VALUES (:agent, :kind, clock_timestamp() + CAST(:cost AS interval))
    ON CONFLICT (agent, kind) DO UPDATE SET used_until = {_USED} WHERE {_USED} <= clock_timestamp() + CAST(:period AS interval)
    RETURNING used_until
    """  # noqa: S608 - it is ours
)
_AGAIN_IN_S = text(
    """
    SELECT extract(epoch FROM used_until + CAST(:cost AS interval) - CAST(:period AS interval) - clock_timestamp())::float8
    FROM allowances WHERE agent = :agent AND kind = :kind
    """
)
_CORRECT = text(
    """
    UPDATE allowances
    SET used_until = greatest(used_until, CASE WHEN CAST(:cost AS interval) > '0' THEN clock_timestamp() END) + CAST(:cost AS interval)
    WHERE agent = :agent AND kind = :kind
    """
)


def _count(found: Select[Any]) -> Select[Any]:
    return select(func.count()).select_from(found.limit(bindparam("most", type_=Integer)).subquery())


_OPEN_TASKS = _count(select(AgentTask.id).where(AgentTask.created_by == bindparam("actor"), AgentTask.status.not_in(ENDED)))
_HELD_MEMORIES = _count(select(Memory.id).where(Memory.created_by == bindparam("actor")))
_HELD_CLAIMS = _count(
    select(Claim.resource).where(
        *(Claim.holder == bindparam("actor"), Claim.released_at.is_(None)),
        *(Claim.expires_at > func.clock_timestamp(), Claim.resource.not_like("task:%")),
    )
)


def message(session: Session) -> None:
    """Count a message of the current actor. Raises RateLimited."""
    _one(session, Kind.MESSAGES, "messages_per_minute", period=MINUTE, may="may send {limit} messages a minute")


def state_update(session: Session) -> None:
    """Count that the current actor tells what it is doing. Raises RateLimited."""
    _one(session, Kind.STATES, "states_per_minute", period=MINUTE, may="may tell what it is doing {limit} times a minute")


def search(session: Session) -> None:
    """Count a search of the current actor in what is indexed. Raises RateLimited."""
    _one(session, Kind.SEARCHES, "searches_per_minute", period=MINUTE, may="may search {limit} times a minute")


def indexing(session: Session) -> None:
    """Count that the current actor has a folder indexed. Raises RateLimited."""
    _one(session, Kind.INDEXINGS, "indexings_per_hour", period=HOUR, may="may have folders indexed {limit} times an hour")


def memory(session: Session) -> None:
    """Count that the current actor remembers something. Raises RateLimited."""
    _one(session, Kind.MEMORIES, "memories_per_minute", period=MINUTE, may="may remember {limit} things a minute")


def inference_tokens(session: Session, count: int) -> None:
    """Count what a model may read and write for the current actor. Raises OverQuota."""
    limit = settings().inference_tokens_per_day
    if not limit:
        return
    name, who = variable("inference_tokens_per_day"), context(session).actor
    if count > limit:
        raise OverQuota(f"{who} may ask models for {limit} tokens a day, and this may take {count}.", "Ask for fewer, or a shorter question.", name)
    if (later_s := _take(session, Kind.INFERENCE_TOKENS, count, limit=limit, period=DAY)) is not None:
        remedy = f"What is used comes back evenly: there will be room for these {count} in {_in_words(later_s)}, for fewer sooner."
        raise OverQuota(f"{who} may ask models for {limit} tokens a day, and has.", remedy, name)


def correct_inference_tokens(session: Session, *, counted: int, used: int) -> None:
    """Count what a model has used in place of what it might have."""
    limit = settings().inference_tokens_per_day
    if limit:
        session.execute(_CORRECT, _values(session, Kind.INFERENCE_TOKENS, used - counted, limit=limit, period=DAY))


def artifact(session: Session, size: int) -> None:
    """Count the bytes that the current actor puts into an artifact. Raises OverQuota."""
    config = settings()
    if config.artifact_bytes and size > config.artifact_bytes:
        principle = f"An artifact may have {config.artifact_bytes} bytes, and this one has {size}."
        raise OverQuota(principle, "Put it in parts, or only what it is made of.", variable("artifact_bytes"))
    limit, name, who = config.artifact_bytes_per_day, variable("artifact_bytes_per_day"), context(session).actor
    if not limit:
        return
    count = max(size, LEAST_BYTES)
    if count > limit:
        raise OverQuota(f"{who} may put {limit} bytes into artifacts a day, and this one counts {count}.", "Put less.", name)
    if (later_s := _take(session, Kind.ARTIFACT_BYTES, count, limit=limit, period=DAY)) is not None:
        remedy = f"What is used comes back evenly: there will be room for this one in {_in_words(later_s)}, for a smaller one sooner."
        raise OverQuota(f"{who} may put {limit} bytes into artifacts a day, and has.", remedy, name)


def open_task(session: Session) -> None:
    """Count the tasks of the current actor that have not ended, one that was recorded just now among them. Raises OverQuota."""
    limit = settings().open_tasks_per_agent
    if not limit:
        return
    actor = context(session).actor
    # Of two who delegate at once, the second must count what the first has delegated: a statement that waited for it would still see the time before.
    turns.take(session, f"open tasks of {actor}")
    if (session.scalar(_OPEN_TASKS, {"actor": actor, "most": limit + 1}) or 0) > limit:
        remedy = "Wait until some have ended, or cancel what is not wanted with federation_cancel_task."
        raise OverQuota(f"{actor} may have {limit} tasks delegated and not ended, and has.", remedy, variable("open_tasks_per_agent"))


def held_claims(session: Session) -> None:
    """Count the claims on resources that the current actor holds, one that it took just now among them. Raises OverQuota."""
    limit = settings().claims_per_agent
    if not limit:
        return
    actor = context(session).actor
    turns.take(session, f"claims of {actor}")
    if (session.scalar(_HELD_CLAIMS, {"actor": actor, "most": limit + 1}) or 0) > limit:
        remedy = "Give back what you are done with (federation_release), or claim a folder, such as file:src/**, in place of its files."
        raise OverQuota(f"{actor} may hold {limit} claims, and does.", remedy, variable("claims_per_agent"))


def held_memories(session: Session) -> None:
    """Count what the current actor remembers, one memory that it made just now among them. Raises OverQuota."""
    limit = settings().memories_per_agent
    if not limit:
        return
    actor = context(session).actor
    turns.take(session, f"memories of {actor}")
    if (session.scalar(_HELD_MEMORIES, {"actor": actor, "most": limit + 1}) or 0) > limit:
        remedy = "Forget what is of no use any more (federation_recall lists it, federation_forget removes it), or remember several things as one."
        raise OverQuota(f"{actor} may remember {limit} things, and does.", remedy, variable("memories_per_agent"))


def _one(session: Session, kind: Kind, setting: str, *, period: timedelta, may: str) -> None:
    """Take one of what this setting limits. Raises RateLimited."""
    limit: int = getattr(settings(), setting)
    if limit and (again_in_s := _take(session, kind, 1, limit=limit, period=period)) is not None:
        raise RateLimited(f"{context(session).actor} {may.format(limit=limit)}", variable(setting), again_in_s)


def _take(session: Session, kind: Kind, cost: int, *, limit: int, period: timedelta) -> float | None:
    """Take so many of what comes back at `limit` a `period`; return None, or the seconds until they are there."""
    values = _values(session, kind, cost, limit=limit, period=period)
    if session.scalar(_TAKE, values) is not None:
        return None
    return max(session.scalar(_AGAIN_IN_S, values) or 0.0, 0.0)


def _values(session: Session, kind: Kind, cost: int, *, limit: int, period: timedelta) -> dict[str, object]:
    return {"agent": context(session).actor, "kind": kind, "cost": period * cost / limit, "period": period}


def _in_words(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"
