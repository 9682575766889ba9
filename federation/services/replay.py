"""Rebuilds from the event log what the tables should hold, and compares the two; what says only «I live» is left out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.services.replayed_events import APPLY
from federation.services.replayed_rows import Rows, Told
from federation.services.replayed_tables import STORED

Progress = Callable[[int, int], None]
FETCHED_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A row, or one of its columns, that is not what the events make of it; None stands for a row that is not there."""

    table: str
    key: str
    column: str | None
    replayed: Any
    stored: Any


@dataclass(frozen=True, slots=True)
class Replayed:
    """How much was replayed into how many rows, and what differs."""

    events: int
    rows: int
    differences: list[Difference]


_EVENTS = text(
    """
    SELECT e.type, e.actor, e.stream, e.position, e.conversation_id, e.payload FROM events e LEFT JOIN event_order o USING (sequence)
    ORDER BY o.number NULLS LAST, e.sequence
    """
)
_COUNT = text("SELECT count(*) FROM events")


def replay(session: Session, progress: Progress = lambda done, total: None) -> Replayed:
    """Make all events happen again in their order, in memory, and compare what comes of it with the tables."""
    rebuilt: Rows = {table: {} for table in STORED}
    total = session.execute(_COUNT).scalar_one()
    done = 0
    for row in session.execute(_EVENTS, execution_options={"yield_per": FETCHED_AT_ONCE}):
        event = Told(*row)
        apply = APPLY.get(event.type)
        if apply is not None:
            apply(rebuilt, event)
        done += 1
        if done % FETCHED_AT_ONCE == 0:
            progress(done, total)
    differences = [difference for table in STORED for difference in _compared(session, table, rebuilt[table])]
    return Replayed(done, sum(map(len, rebuilt.values())), differences)


def _compared(session: Session, table: str, rebuilt: dict[str, dict[str, Any]]) -> Iterator[Difference]:
    stored: dict[str, dict[str, Any]] = {key: row for key, row in session.execute(text(STORED[table]))}  # noqa: C416 - rows are no pairs to mypy
    for key in sorted(rebuilt.keys() | stored.keys()):
        if key not in stored or key not in rebuilt:
            yield Difference(table, key, None, rebuilt.get(key), stored.get(key))
            continue
        for column, value in rebuilt[key].items():
            if stored[key].get(column) != value:
                yield Difference(table, key, column, value, stored[key].get(column))
