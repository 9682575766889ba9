"""The event log in its one order, page by page, for an operator who replays or follows it: it tells of everything."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, String, func, literal_column, select
from sqlalchemy.orm import Session, aliased

from federation.errors import InvalidInput, NotFound
from federation.services import conversations
from federation.services.replayed_events import APPLY, WITHOUT_A_ROW
from federation.store import event_order
from federation.store.event_order import LINE, Line
from federation.store.models.events import Event, OrderedEvent

TYPES = APPLY.keys() | WITHOUT_A_ROW
_FAMILY = ".*"
_FAMILIES = {type_.partition(".")[0] + _FAMILY for type_ in TYPES}
# LINE wants the event under this name.
_E = aliased(Event, name="e")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which events are wanted; None: all."""

    types: Sequence[str] | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order, and the number up to which these are all that are wanted; `more`: there may be others behind it already."""

    lines: Sequence[Line]
    reached: int
    more: bool


def chosen(session: Session, *, types: Iterable[str] = (), conversation_id: str | None = None) -> Chosen:
    """Return which events are of these types, of which `task.*` stands for several, and of this conversation; without any, all.

    Raises NotFound with the nearest for a type that no event has, and for an unknown conversation.
    """
    named: set[str] = set()
    for each in types:
        family = each.removesuffix("*") if each.endswith(_FAMILY) else None
        found = {type_ for type_ in TYPES if type_ == each or (family is not None and type_.startswith(family))}
        if not found:
            raise NotFound("event type", each, TYPES | _FAMILIES)
        named |= found
    if conversation_id is not None:
        conversations.require_reader(session, conversation_id)
    return Chosen(sorted(named) or None, conversation_id)


def before_latest(session: Session, which: Chosen, limit: int) -> int:
    """Return the number after which the latest so many of these events lie."""
    last = event_order.last_number(session)
    latest = select(OrderedEvent.number).join(_E, _E.sequence == OrderedEvent.sequence).where(*_conditions(which), OrderedEvent.number <= last)
    latest = latest.order_by(OrderedEvent.number.desc()).limit(min(limit, last))
    first = session.scalar(select(func.min(latest.subquery().c.number)))
    return last if first is None else first - 1


def require_place(session: Session, number: int) -> None:
    """Pass if events are numbered up to here. Raises InvalidInput: a database that was brought back from a copy may know less than its reader."""
    last = event_order.last_number(session)
    if number > last:
        raise InvalidInput("after", number, f"a number that was given: the last one is {last}")


def page(session: Session, which: Chosen, *, after: int, limit: int) -> Page:
    """Return at most so many of these events behind a number, the oldest first."""
    # Before the events: what gets its number in between comes with the next page.
    last = event_order.last_number(session)
    if last <= after:
        return Page((), after, more=False)
    line: ColumnElement[str] = literal_column(LINE, String)
    query = select(OrderedEvent.number, _E.type, line).join(_E, _E.sequence == OrderedEvent.sequence)
    query = query.where(*_conditions(which), OrderedEvent.number > after, OrderedEvent.number <= last).order_by(OrderedEvent.number).limit(limit)
    lines = [Line(number, type_, text) for number, type_, text in session.execute(query)]
    full = len(lines) == limit
    reached = lines[-1].number if full else last
    return Page(lines, reached, more=full and reached < last)


def _conditions(which: Chosen) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if which.types is not None:
        conditions.append(_E.type.in_(which.types))
    if which.conversation_id is not None:
        conditions.append(_E.conversation_id == which.conversation_id)
    return conditions
