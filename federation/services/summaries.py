"""Summaries of conversations, window by window: each begins where the one before it ended, whoever asked for it."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import ColumnElement, and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.services import conversations, summary_schedules
from federation.store import event_log, outbox
from federation.store.context import context, notify
from federation.store.fixed_ids import fixed_id
from federation.store.models.conversations import Conversation, Message
from federation.store.models.summaries import Summary

SUMMARISE = "federation.tasks.summaries.summarise"
ENGINE = "minilm"

# What fails is asked for again later and later: beat looks every few seconds.
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=10), timedelta(hours=1)
# Former attempts of one window that are looked up in one query.
AT_ONCE = 16

_COVERED = """
    CROSS JOIN LATERAL (
        SELECT coalesce(
            (SELECT to_position FROM summaries WHERE conversation_id = c.id AND level = 1 ORDER BY from_position DESC LIMIT 1), 0
        ) AS upto
    ) covered
"""
_BEHIND = "conversation_id = c.id AND position > covered.upto AND (recipient IS NULL AND audience IS NULL OR c.id LIKE 'direct:%')"
# The counter leads to the few conversations that are due; only of those the messages of one window are read. Schedules are few, and each is looked
# at by itself: with OFFSET it cannot become a walk through all conversations.
_DUE = text(
    f"""
    WITH c AS (
        SELECT id, :window AS size FROM conversations
        WHERE unsummarised >= :window
            AND NOT EXISTS (SELECT FROM summary_schedules s WHERE s.conversation_id = conversations.id AND s.messages IS NOT NULL OFFSET 0)
        UNION ALL
        SELECT s.conversation_id, s.messages FROM summary_schedules s
        CROSS JOIN LATERAL (SELECT FROM conversations WHERE id = s.conversation_id AND unsummarised >= s.messages OFFSET 0) counted
    )
    SELECT c.id AS conversation_id, covered.upto + 1 AS start, last.position AS upto
    FROM c {_COVERED}
    CROSS JOIN LATERAL (SELECT position FROM messages WHERE {_BEHIND} ORDER BY position OFFSET c.size - 1 LIMIT 1) last
    """  # noqa: S608 - it is ours
)
_DUE_BY_TIME = text(
    f"""
    SELECT c.id AS conversation_id, covered.upto + 1 AS start, last.position AS upto
    FROM unnest(CAST(:ids AS text[]), CAST(:times AS timestamptz[])) AS c(id, at) {_COVERED}
    CROSS JOIN LATERAL (SELECT position FROM messages WHERE {_BEHIND} AND created_at <= c.at ORDER BY position DESC LIMIT 1) last
    """  # noqa: S608 - it is ours
)
_FORMER = text(
    """
    SELECT e.id, coalesce(r.state, e.outcome, '') IN ('FAILURE', 'REVOKED') OR e.cancelled_at IS NOT NULL AS failed,
        clock_timestamp() - coalesce(r.date_done, e.ended_at, e.created_at) AS ago
    FROM unnest(CAST(:ids AS uuid[]), CAST(:task_ids AS text[])) AS asked(id, task_id)
    JOIN executions e ON e.id = asked.id LEFT JOIN celery_results r ON r.task_id = asked.task_id
    """
)


@dataclass(frozen=True, slots=True)
class SummaryView:
    """The summary of what was said from one position to another, both included."""

    summary_id: uuid.UUID
    conversation_id: str
    level: Annotated[int, Field(description="1: of messages, which federation_history has; above: of summaries of the level below (`part_of`).")]
    from_position: int
    to_position: int
    text: str
    method: Annotated[
        str, Field(description="extractive: sentences that were really said, with speakers; abstractive: a model's words, with names that were said.")
    ]
    model: str
    created_by: Annotated[str, Field(description="Who asked for it: an agent, or service:beat.")]
    created_at: datetime
    message_ids: Annotated[
        Sequence[str] | None,
        Field(
            description="message_id of each message that a sentence was taken from, or of the most telling; not with `tokens`.",
            exclude_if=lambda ids: ids is None,
        ),
    ] = None
    rejected: Annotated[str | None, Field(description="Why what a model wrote was not taken.", exclude_if=lambda why: why is None)] = None


@dataclass(frozen=True, slots=True)
class Asked:
    """The execution that summarises a conversation up to a position."""

    execution_id: uuid.UUID
    upto: int


@dataclass(frozen=True, slots=True)
class Said:
    """Something as the summariser reads it: a message, or a sentence of a summary with the message that it comes from.

    A sentence that a model wrote has no sender, and comes from all messages that its summary names.
    """

    message_ids: Sequence[uuid.UUID]
    sender: str
    content: str


@dataclass(frozen=True, slots=True)
class Window:
    """What is in no summary of a level yet, from one position to another, both included."""

    start: int
    end: int
    messages: Sequence[Said]
    level: int = 1


def request_due(session: Session, *, window: int) -> list[uuid.UUID]:
    """Record an execution for each conversation whose summary is due; return those that are new.

    It is due when so many messages to all are in no summary, or as many as its schedule says, and when a time of its schedule has come since then.
    """
    found = session.execute(_DUE, {"window": window}).all()
    if times := summary_schedules.passed(session):
        found = [*found, *session.execute(_DUE_BY_TIME, {"ids": list(times), "times": list(times.values())})]
    due: dict[tuple[str, int], int] = {}
    for row in found:
        # What is due by both is summarised up to where the first ends, and then on.
        due[row.conversation_id, row.start] = min(row.upto, due.get((row.conversation_id, row.start), row.upto))
    return [asked.execution_id for asked, new in _asked(session, due, patient=True) if new]


def request(session: Session, conversation_id: str) -> Asked | None:
    """Record the execution that summarises what all heard since the last summary; None if there is nothing.

    Raises NotFound, Refused for a stranger.
    """
    conversations.require_member(session, conversation_id)
    last = session.scalar(
        select(Message.position).where(Message.conversation_id == conversation_id, _to_all()).order_by(Message.position.desc()).limit(1)
    )
    upto = covered(session, conversation_id)
    if last is None or last <= upto:
        return None
    [(asked, _)] = _asked(session, {(conversation_id, upto + 1): last}, patient=False)
    return asked


def _asked(session: Session, windows: Mapping[tuple[str, int], int], *, patient: bool) -> list[tuple[Asked, bool]]:
    """Return the execution of each window (conversation, start → end), and whether it is new; a patient asker waits before it asks again."""
    asked: list[tuple[Asked, bool]] = []
    left, attempt = dict(windows), 0
    while left:
        # The same window has the same id, so that all who ask for it meet in one execution; after a failure it has another.
        ids = {key: [fixed_id("summary", *key, upto, attempt + more) for more in range(AT_ONCE)] for key, upto in left.items()}
        looked_at = [identity for several in ids.values() for identity in several]
        known = {row.id: row for row in session.execute(_FORMER, {"ids": looked_at, "task_ids": list(map(str, looked_at))})}
        for key, several in ids.items():
            failed = 0
            while failed < AT_ONCE and several[failed] in known and known[several[failed]].failed:
                failed += 1
            if failed == AT_ONCE:
                continue
            identity, upto = several[failed], left.pop(key)
            if identity not in known:
                if patient and failed and known[several[failed - 1]].ago < _pause(attempt + failed):
                    continue
                kwargs = {"conversation_id": key[0], "to_position": upto}
                outbox.record(session, SUMMARISE, kwargs, requirements={"engine": ENGINE}, execution_id=identity, conversation_id=key[0])
            asked.append((Asked(identity, upto), identity not in known))
        attempt += AT_ONCE
    return asked


def _pause(failures: int) -> timedelta:
    return min(FIRST_RETRY * (1 << min(failures - 1, 16)), LONGEST_RETRY)


def covered(session: Session, conversation_id: str, *, level: int = 1) -> int:
    """Return up to which position a conversation is summarised on a level; 0 where nothing is."""
    query = select(Summary.to_position).where(Summary.conversation_id == conversation_id, Summary.level == level)
    return session.scalar(query.order_by(Summary.from_position.desc()).limit(1)) or 0


def rest(session: Session, conversation_id: str, *, upto: int) -> Window | None:
    """Return what up to a position is in no summary; None if there is nothing. Others may summarise some of it meanwhile."""
    start = covered(session, conversation_id) + 1
    messages = window(session, conversation_id, start=start, end=upto)
    return Window(start, upto, messages) if messages else None


def window(session: Session, conversation_id: str, *, start: int = 1, end: int | None = None) -> list[Said]:
    """Return the messages to all of a window, in order; private ones stay out of summaries. No end: up to the last."""
    query = select(Message.id, Message.sender, Message.content).where(Message.conversation_id == conversation_id, Message.position >= start)
    if end is not None:
        query = query.where(Message.position <= end)
    return [Said([row.id], row.sender, row.content) for row in session.execute(query.where(_to_all()).order_by(Message.position))]


def _to_all() -> ColumnElement[bool]:
    # In a conversation of two each message is addressed, and both may read the summary.
    return or_(and_(Message.recipient.is_(None), Message.audience.is_(None)), Message.conversation_id.startswith(conversations.DIRECT))


def record(session: Session, values: dict[str, Any]) -> bool:
    """Record the summary of a window; False if another was first, who may have covered less or more.

    Each window of a level begins behind the one before it, and a beginning is taken once: so no two overlap, and there is no gap.
    """
    row = {"level": 1, "rejected": None, **values, "created_by": context(session).actor}
    made = session.scalar(insert(Summary).values(**row).on_conflict_do_nothing().returning(Summary.id))
    if made is None:
        return False
    conversation_id = row["conversation_id"]
    told = {name: row[name] for name in ("level", "from_position", "to_position", "method", "model", "model_digest")}
    # The reason holds words of the model, which are about what was said.
    payload = {**told, "text_sha256": _sha256(row["text"]), "rejected_sha256": row["rejected"] and _sha256(row["rejected"])}
    event_log.append(session, "conversation.summarised", f"conversation:{conversation_id}", payload=payload, conversation_id=conversation_id)
    if row["level"] == 1:
        _count_off(session, conversation_id, row["from_position"], row["to_position"])
    notify(session, [f"summaries:{conversation_id}"])
    return True


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _count_off(session: Session, conversation_id: str, start: int, end: int) -> None:
    # Taken off and not set, because others speak meanwhile. What lies in the window does not change any more.
    within = select(func.count()).where(Message.conversation_id == conversation_id, Message.position.between(start, end), _to_all())
    session.execute(
        update(Conversation).where(Conversation.id == conversation_id).values(unsummarised=Conversation.unsummarised - within.scalar_subquery())
    )


def read(session: Session, conversation_id: str) -> list[SummaryView]:
    """Return the summaries of a conversation, oldest first, each of the highest level that there is for what it is about.

    Raises NotFound, Refused for a stranger.
    """
    conversations.require_member(session, conversation_id)
    of_it = Summary.conversation_id == conversation_id
    found: list[Summary] = []
    # What a level has covered is the beginning; the next one goes on there.
    for level in session.scalars(select(Summary.level).where(of_it).distinct().order_by(Summary.level.desc())).all():
        upto = found[-1].to_position if found else 0
        found += session.scalars(select(Summary).where(of_it, Summary.level == level, Summary.from_position > upto).order_by(Summary.from_position))
    return [view(row) for row in found]


def view(row: Summary) -> SummaryView:
    """Return a summary as its readers see it."""
    return SummaryView(
        row.id,
        row.conversation_id,
        row.level,
        row.from_position,
        row.to_position,
        row.text,
        row.method,
        row.model,
        row.created_by,
        row.created_at,
        row.message_ids,
        row.rejected,
    )
