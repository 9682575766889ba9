"""Rebuilds from the event log what the tables should hold, and compares the two; what says only «I live» is left out."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.services.replayed_events import APPLY
from federation.services.replayed_rows import Rows, Told
from federation.services.replayed_tables import STORED

Progress = Callable[[int, int], None]
FETCHED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """A row, or one of its columns, that is not what the events make of it; None stands for a row that is not there.

    Of the table `events` it is one that cannot be read, with why.
    """

    table: str
    key: str
    column: str | None
    replayed: Any
    stored: Any


@dataclass(frozen=True, slots=True)
class Replayed:
    """How much was replayed into how many rows, the SHA-256 of the state as the events make it and as the tables hold it, and what differs."""

    events: int
    rows: int
    replayed_sha256: str
    stored_sha256: str
    differences: list[Difference]


class _Hashes:
    """Hashes the two states side by side, row by row in one order: they are equal exactly if nothing differs."""

    def __init__(self) -> None:
        self.replayed, self.stored = hashlib.sha256(), hashlib.sha256()

    def take(self, table: str, key: str, replayed: dict[str, Any] | None, stored: dict[str, Any] | None) -> None:
        """Add a row as it is in each; of the stored one no more than what events tell of."""
        told = None if replayed is None else _line(table, key, replayed)
        if told is not None:
            self.replayed.update(told)
        if stored is not None:
            # What compares as equal is written once: 1 and 1.0 are one number, and two texts.
            self.stored.update(told if told is not None and replayed == stored else _line(table, key, stored))


def _line(table: str, key: str, row: dict[str, Any]) -> bytes:
    return json.dumps([table, key, row], sort_keys=True, separators=(",", ":"), default=str).encode() + b"\n"


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
    done, unreadable = 0, list[Difference]()
    for row in session.execute(_EVENTS, execution_options={"yield_per": FETCHED_AT_ONCE}):
        event = Told(*row)
        apply = APPLY.get(event.type)
        if apply is not None:
            try:
                apply(rebuilt, event)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                # Only SQL beside the program tells what is not in the form of its type, and it must not keep the rest from being compared.
                unreadable.append(Difference("events", f"{event.stream} {event.position}", None, f"{event.type}: {error!r}", None))
        done += 1
        if done % FETCHED_AT_ONCE == 0:
            progress(done, total)
    hashes = _Hashes()
    differences = unreadable + [difference for table in STORED for difference in _compared(session, table, rebuilt[table], hashes)]
    return Replayed(done, sum(map(len, rebuilt.values())), hashes.replayed.hexdigest(), hashes.stored.hexdigest(), differences)


def _compared(session: Session, table: str, rebuilt: dict[str, dict[str, Any]], hashes: _Hashes) -> Iterator[Difference]:
    stored: dict[str, dict[str, Any]] = {key: row for key, row in session.execute(text(STORED[table]))}  # noqa: C416 - rows are no pairs to mypy
    # What is no text as a key comes of an event that the program did not write.
    for key in sorted(rebuilt.keys() | stored.keys(), key=str):
        made, held = rebuilt.get(key), stored.get(key)
        hashes.take(table, key, made, held if held is None or made is None else {column: held.get(column) for column in made})
        if key not in stored or key not in rebuilt:
            yield Difference(table, key, None, rebuilt.get(key), stored.get(key))
            continue
        for column, value in rebuilt[key].items():
            if stored[key].get(column) != value:
                yield Difference(table, key, column, value, stored[key].get(column))
