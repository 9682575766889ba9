"""When a conversation is summarised beside what its length asks for: set by its members, and read anew whenever beat looks.

That a time has come is written nowhere: it follows from the schedule, the clock and what is in no summary yet, so no crash can lose one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError
from sqlalchemy import delete, func, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.errors import InvalidInput, NotFound
from federation.services import charter, conversations
from federation.services.charter import is_agent
from federation.store import event_log
from federation.store.context import context
from federation.store.models.conversations import Conversation
from federation.store.models.summaries import SummarySchedule

FIELDS = "minute, hour, day of the month, month and day of the week, such as '0 7 * * mon-fri'"
LONGEST_CRON = 200
FEWEST_MESSAGES, MOST_MESSAGES = 2, 10_000


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """When a conversation is summarised; `next_at` is the next time of `cron`, None where there is none."""

    conversation_id: str
    cron: str | None
    messages: int | None
    next_at: datetime | None
    created_by: str
    updated_by: str
    updated_at: datetime


def put(session: Session, conversation_id: str, *, cron: str | None = None, messages: int | None = None) -> ScheduleView:
    """Set when a conversation is summarised, in place of what was set before; the same once more changes nothing.

    Raises NotFound, InvalidInput, Refused for who may not.
    """
    _require(session, conversation_id)
    if cron is None and messages is None:
        raise InvalidInput("cron", None, "times (cron), a number of messages, or both")
    cron = None if cron is None else _valid(cron, context(session).now())
    if messages is not None and not FEWEST_MESSAGES <= messages <= MOST_MESSAGES:
        raise InvalidInput("messages", messages, f"{FEWEST_MESSAGES} to {MOST_MESSAGES}")
    told = {"cron": cron, "messages": messages}
    changed = {**told, "updated_by": context(session).actor, "updated_at": func.clock_timestamp()}
    other = SummarySchedule.cron.is_distinct_from(cron) | SummarySchedule.messages.is_distinct_from(messages)
    written = insert(SummarySchedule).values(conversation_id=conversation_id, created_by=context(session).actor, **told)
    made = session.scalar(
        written.on_conflict_do_update(index_elements=["conversation_id"], set_=changed, where=other).returning(SummarySchedule.conversation_id)
    )
    if made is not None:
        event_log.append(session, "conversation.scheduled", f"conversation:{conversation_id}", payload=told, conversation_id=conversation_id)
    return _view(session, session.get_one(SummarySchedule, conversation_id, populate_existing=True))


def remove(session: Session, conversation_id: str) -> None:
    """Let a conversation be summarised as others are. Raises NotFound where nothing is set, Refused for who may not."""
    _require(session, conversation_id)
    removed = delete(SummarySchedule).where(SummarySchedule.conversation_id == conversation_id).returning(SummarySchedule.conversation_id)
    if session.scalar(removed) is None:
        raise NotFound("schedule", conversation_id, [each.conversation_id for each in listed(session)])
    event_log.append(session, "conversation.unscheduled", f"conversation:{conversation_id}", payload={}, conversation_id=conversation_id)


def listed(session: Session) -> list[ScheduleView]:
    """Return the schedules of the caller's conversations, an operator's of all, by name."""
    mine = conversations.is_mine(session, SummarySchedule.conversation_id) if is_agent(context(session).actor) else true()
    query = select(SummarySchedule).where(mine).order_by(SummarySchedule.conversation_id)
    return [_view(session, row) for row in session.scalars(query)]


def passed(session: Session) -> Mapping[str, datetime]:
    """Return the last time that has come since it was set, of each conversation in which something is in no summary yet."""
    query = (
        select(SummarySchedule)
        .join(Conversation, Conversation.id == SummarySchedule.conversation_id)
        .where(SummarySchedule.cron.is_not(None), Conversation.unsummarised > 0)
    )
    now = context(session).now().astimezone(UTC)
    times = ((row, _last(row.cron or "", now)) for row in session.scalars(query))
    return {row.conversation_id: at for row, at in times if at is not None and at > row.updated_at}


def _last(cron: str, now: datetime) -> datetime | None:
    """Return the last time of a schedule, None where there is none: also of one that cannot be read, which was written beside the program."""
    try:
        return next(CronSim(cron, now, reverse=True), None)
    except CronSimError:
        return None


def _require(session: Session, conversation_id: str) -> None:
    conversations.require_reader(session, conversation_id)
    charter.require(session, Right.RUN, instead="ask one of them.", where=conversation_id)
    if conversation_id == conversations.COMMONS:
        # It is there for all from the start, and has a row once somebody has written or set something.
        conversations.open_for(session, conversation_id, [])


def _valid(cron: str, now: datetime) -> str:
    """Return times as they are kept. Raises InvalidInput for what is none, or never comes."""
    fields = cron.split()
    if len(fields) != 5 or len(cron) > LONGEST_CRON:
        raise InvalidInput("cron", cron, f"five fields: {FIELDS}")
    kept = " ".join(fields)
    try:
        _next(kept, now)
    except CronSimError as error:
        raise InvalidInput("cron", cron, f"{FIELDS} ({error})") from error
    except StopIteration as error:
        raise InvalidInput("cron", cron, "a time that comes") from error
    return kept


def _next(cron: str, now: datetime) -> datetime:
    return next(CronSim(cron, now.astimezone(UTC)))


def _view(session: Session, row: SummarySchedule) -> ScheduleView:
    next_at = None if row.cron is None else _next(row.cron, context(session).now())
    return ScheduleView(row.conversation_id, row.cron, row.messages, next_at, row.created_by, row.updated_by, row.updated_at)
