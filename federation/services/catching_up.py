"""A conversation within so many tokens: its latest messages word for word, the summaries of what lies before them, and what is in neither."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from federation.services import history, inboxes, summaries
from federation.services.summaries import SummaryView
from federation.store.models.conversations import Message

T = TypeVar("T")

# What a message has at least beside its content, in the answer's JSON.
_ENVELOPE = 90
# At most two of them are said.
_GAPS = 2 * 70


@dataclass(frozen=True, slots=True)
class Line:
    """A message, word for word."""

    position: Annotated[int, Field(description="Its place in the conversation.")]
    sender: str
    content: str
    created_at: datetime
    to: Annotated[str | None, Field(description="Whom it is for, if not for all members.", exclude_if=lambda to: to is None)] = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that you may read and that are in no summary and not word for word here."""

    from_position: int
    to_position: int
    messages: Annotated[int, Field(description="How many; read them with federation_history(after=from_position - 1).")]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What fits."""

    summaries: Sequence[SummaryView]
    messages: Sequence[Line]
    left_out: Sequence[Gap]


def size(told: Any) -> int:
    """Return how many characters something takes in an answer."""
    return len(TypeAdapter(type(told)).dump_json(told).decode())


def read(session: Session, conversation_id: str, *, room: int) -> CaughtUp:
    """Return as much of a conversation as so many characters hold.

    Half of them are for the latest messages, or less where no summary would fit beside these; what the summaries of the rest do not take is for
    messages too. Raises NotFound, Refused for a stranger.
    """
    # Positions lead to the messages, and ids would take the room of words.
    written = [replace(summary, message_ids=None) for summary in summaries.read(session, conversation_id)]
    room -= _GAPS
    lines, more = _latest(session, conversation_id, room)
    if not more and sum(map(_cost, lines)) <= room:
        return CaughtUp([], lines[::-1], [])
    tail = _leaving_room(written, _fitting(lines, room // 2), room)
    before = [summary for summary in written if not tail or summary.from_position < tail[-1].position]
    shown = _fitting(before[::-1], room - sum(map(_cost, tail)))[::-1]
    tail = _fitting(lines, room - sum(map(_cost, shown)))[::-1]
    return CaughtUp(shown, tail, _left_out(session, conversation_id, shown, tail))


def _latest(session: Session, conversation_id: str, room: int) -> tuple[list[Line], bool]:
    """Return the latest messages that may fit, the latest first, and whether there are more."""
    most = max(room // _ENVELOPE, 1)
    listed: Any = (
        select(Message.position.label("place"), Message.id.label("message_id"), (func.char_length(Message.content) + _ENVELOPE).label("size"))
        .where(Message.conversation_id == conversation_id, history.readable(session))
        .order_by(Message.position.desc())
        .limit(most + 1)
    )
    found, more = inboxes.fitting(session, inboxes.fitted(listed, most, latest_first=True, room=room))
    return [_line(message) for _, message in found], more


def _line(message: Message) -> Line:
    return Line(message.position, message.sender, message.content, message.created_at, message.recipient or message.audience)


def _cost(told: Any) -> int:
    # With the comma.
    return size(told) + 1


def _fitting(listed: Iterable[T], room: int) -> list[T]:
    """Return as many of the first as fit."""
    fitting: list[T] = []
    for one in listed:
        room -= _cost(one)
        if room < 0:
            break
        fitting.append(one)
    return fitting


def _leaving_room(written: Sequence[SummaryView], tail: Sequence[Line], room: int) -> Sequence[Line]:
    """Return as many of these messages, the latest first, as leave room for the last summary of what lies before them; all where none does."""
    costs = [(summary.from_position, _cost(summary)) for summary in written]
    left = room - sum(map(_cost, tail))
    for count in range(len(tail), 0, -1):
        before = [cost for start, cost in costs if start < tail[count - 1].position]
        if before and before[-1] <= left:
            return tail[:count]
        left += _cost(tail[count - 1])
    return tail


def _left_out(session: Session, conversation_id: str, shown: Sequence[SummaryView], tail: Sequence[Line]) -> list[Gap]:
    """Return what lies before the first summary, and between the last one and the messages."""
    last = session.scalar(select(func.max(Message.position)).where(Message.conversation_id == conversation_id)) or 0
    until = tail[0].position - 1 if tail else last
    spans = [(1, min(shown[0].from_position - 1, until)), (shown[-1].to_position + 1, until)] if shown else [(1, until)]
    gaps = []
    for start, end in spans:
        within = Message.position.between(start, end)
        count = session.scalar(select(func.count()).where(Message.conversation_id == conversation_id, within, history.readable(session)))
        if count:
            gaps.append(Gap(start, end, count))
    return gaps


def fits(session: Session, conversation_id: str, *, room: int) -> bool:
    """Return whether a further summary would add nothing: all that is in none stands there word for word. Raises as `read`."""
    covered = summaries.covered(session, conversation_id)
    return not any(gap.to_position > covered for gap in read(session, conversation_id, room=room).left_out)
