"""The picture in pages, and what has changed of it since a look: a cursor says what its reader has seen, and behind whom he goes on."""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.services import cop, names
from federation.services.cop import Place, PulseRow
from federation.store.models.cop import SubjectKind

_SNAPSHOT = "[0-9]{1,18}:[0-9]{1,18}:([0-9]{1,18}(,[0-9]{1,18})*)?"
# What is seen; between pages also since what, unless all is told, and behind whom. Of the past nothing is seen that changes.
CURSOR = f"^({_SNAPSHOT}|({_SNAPSHOT})?~({_SNAPSHOT})?~(node|agent):{names.PATTERN})$"
_NOW = text("SELECT pg_current_snapshot()::text")


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the picture, and the cursor by which it goes on: at once if there is `more`, else with what changes from now on."""

    rows: list[PulseRow]
    cursor: str | None
    more: bool


@dataclass(frozen=True, slots=True)
class _Cursor:
    seen: str
    since: str = ""
    behind: Place | None = None


def _read(after: str) -> _Cursor:
    """Return a cursor that `_write` wrote. Raises InvalidInput."""
    refused = InvalidInput("after", after, "the cursor of an earlier call")
    if not re.fullmatch(CURSOR, after):
        raise refused
    seen, *rest = after.split("~")
    since, place = rest or ("", "")
    # PostgreSQL would refuse it too, but only where there are rows to look at.
    if not all(_is_snapshot(each) for each in (seen, since) if each):
        raise refused
    kind, _, name = place.partition(":")
    return _Cursor(seen, since, (SubjectKind(kind), name) if place else None)


def _is_snapshot(written: str) -> bool:
    """Say whether PostgreSQL takes it for a pg_snapshot: no transaction is running that is not between its ends."""
    first, beyond, running = written.split(":")
    ends = [int(first), *(int(each) for each in running.split(",") if each), int(beyond)]
    return ends[0] > 0 and ends == sorted(ends) and (not running or ends[-2] < ends[-1])


def _write(seen: str, since: str, last: PulseRow) -> str:
    return f"{seen}~{since}~{last.kind}:{last.name}"


def is_between_pages(after: str) -> bool:
    """Say whether what a cursor goes on with is there already. Raises InvalidInput."""
    return _read(after).behind is not None


def page(session: Session, after: str | None = None, *, limit: int, node_stale_s: float, agent_stale_s: float) -> Page:
    """Return all agents and nodes, or those that have changed since a cursor, at most so many of them. Raises InvalidInput for what is no cursor."""
    known = None if after is None else _read(after)
    if known is not None and not known.seen:
        raise InvalidInput("after", after, "the cursor of a look at now; this one is of the past, and goes on with `at`")
    if known is None or known.behind is None:
        # Before the look, so that nothing falls between.
        seen: str = session.execute(_NOW).scalar_one()
        known = _Cursor(seen, "" if known is None else known.seen)
    since = known.since or None
    rows = cop.pulse(session, node_stale_s=node_stale_s, agent_stale_s=agent_stale_s, since=since, behind=known.behind, limit=limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, _write(known.seen, known.since, rows[-1]) if more else known.seen, more)


def page_at(session: Session, at: datetime, after: str | None = None, *, limit: int, agent_stale_s: float) -> Page:
    """Return what everybody was doing at a moment, at most so many of them. Raises InvalidInput for a cursor that is not of the past."""
    known = None if after is None else _read(after)
    if known is not None and known.seen:
        raise InvalidInput("after", after, "the cursor of a former page of the same past; this one is of now")
    rows = cop.pulse_at(session, at, agent_stale_s=agent_stale_s, behind=None if known is None else known.behind, limit=limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, _write("", "", rows[-1]) if more else None, more)
