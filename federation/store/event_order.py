"""The one order of all events: each committed event gets its number once; remembers how far the topics have been told; publishes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from federation.store.models.events import OrderedEvent

# Of a seal's events, which may be large.
HELD_AT_ONCE = 256
# An event as the audit has it: JSON as PostgreSQL writes jsonb, the same text for the same values. What is hashed, published and
# exported are these bytes, over the row `e` of `events` and its `number`.
LINE = """
jsonb_build_object(
    'number', number, 'sequence', e.sequence, 'id', e.id, 'stream', e.stream, 'position', e.position, 'type', e.type, 'actor', e.actor,
    'conversation_id', e.conversation_id, 'session_id', e.session_id, 'payload', e.payload, 'trace_id', e.trace_id,
    'at', to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
)::text
"""
# One statement sees one moment: where it sees an event it sees those before it in its stream too, because a stream is locked until the
# commit; and these have lower sequences. So the order of numbers is that of each stream, and no horizon has to be waited for.
_NUMBER = text(
    f"""
    WITH unnumbered AS MATERIALIZED (
        SELECT * FROM events
        WHERE sequence > :settled
            AND NOT EXISTS (SELECT FROM event_order WHERE event_order.sequence = events.sequence AND event_order.sequence > :settled)
        ORDER BY sequence LIMIT :limit
    ), placed AS (
        SELECT *, (SELECT coalesce(max(number), 0) FROM event_order) + row_number() OVER (ORDER BY sequence) AS number FROM unnumbered
    ), numbered AS (
        INSERT INTO event_order (number, sequence, leaf)
        SELECT number, sequence, sha256('\\x00'::bytea || convert_to({LINE}, 'UTF8')) FROM placed e
        RETURNING sequence
    )
    SELECT count(*), coalesce(max(sequence), 0) FROM numbered
    """  # noqa: S608 - LINE is ours
)
_LINES = text(
    f"""
    SELECT number, e.type, {LINE} AS line FROM event_order JOIN events e USING (sequence)
    WHERE number BETWEEN :first AND :last ORDER BY number
    """  # noqa: S608 - LINE is ours
)
# From each number to its event by the key, however many the planner takes these for: joined at once, all events may be looked through. So many at
# once, but one at least, as fit into so many bytes as they are stored: as text they may have a hundred times as many.
_UNPUBLISHED = f"""
    SELECT number, e.type, {LINE} AS line, number < reached AS more
    FROM (
        SELECT placed.number, found.*, coalesce(sum(pg_column_size(found.payload)) OVER (ORDER BY placed.number), 0) AS upto,
            min(placed.number) OVER () AS first, max(placed.number) OVER () AS reached
        FROM (SELECT number, sequence FROM event_order WHERE number > (SELECT published FROM event_relay) ORDER BY number LIMIT {{limit}}) placed
        LEFT JOIN LATERAL (SELECT * FROM events WHERE sequence = placed.sequence OFFSET 0) found ON true
    ) e
    WHERE upto <= {{most_bytes}} OR number = first ORDER BY number
"""  # noqa: S608 - LINE is ours
_SETTLE = text("UPDATE event_relay SET settled = :sequence")
_PUBLISHED = "UPDATE event_relay SET published = greatest(published, %s)"
# Not a SELECT from the sequence: that reads it unlocked, and may see what `nextval` writes ahead into the log for a moment. Whoever took a number of
# it by then has had a transaction id before, and ours is given after that, because it is asked for with what was read. Not the end of a snapshot:
# that lies behind the last transaction that ended, and others may have begun after it. The snapshot is the statement's, from before all of it.
_LOOK = text(
    """
    WITH relay AS MATERIALIZED (SELECT settled, coalesce(pg_sequence_last_value('events_sequence_seq'), 0) AS taken FROM event_relay)
    SELECT settled, taken, CASE WHEN taken > settled THEN pg_current_xact_id()::text::bigint END AS mine,
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest
    FROM relay
    """
)
_IS_UNSETTLED = "SELECT coalesce(pg_sequence_last_value('events_sequence_seq'), 0) > settled FROM event_relay"


@dataclass(frozen=True, slots=True)
class Line:
    """An event in the one order, and its text."""

    number: int
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Horizon:
    """When all transactions below `transaction` have ended, no event can appear at or below `sequence` any more."""

    sequence: int
    transaction: int


@dataclass(frozen=True, slots=True)
class Look:
    """At and below which sequence no event can appear any more, what to wait for above it, and before which transaction all have ended."""

    settled: int
    horizon: Horizon | None
    oldest: int


def is_unsettled(connection: psycopg.Connection) -> bool:
    """Return whether there may be events without a number; one statement, because it is asked each second."""
    [unsettled] = connection.execute(_IS_UNSETTLED).fetchone() or [True]
    return bool(unsettled)


def look(session: Session) -> Look:
    """Return how far the order is settled, and what to wait for; for a transaction that has written nothing yet.

    All that had ended by then is seen by what is asked after it.
    """
    settled, taken, mine, oldest = session.execute(_LOOK).one()
    return Look(settled, None if mine is None else Horizon(taken, mine), oldest)


def give_numbers(session: Session, *, settled: int, limit: int) -> tuple[int, int]:
    """Number at most so many events above the sequence `settled`, the oldest first; return how many, and their highest sequence.

    One caller at a time: of two, one meets the primary key.
    """
    count, highest = session.execute(_NUMBER, {"settled": settled, "limit": limit}).one()
    return count, highest


def settle(session: Session, sequence: int) -> None:
    """Remember that no event can appear at or below this sequence any more."""
    session.execute(_SETTLE, {"sequence": sequence})


def lines(session: Session, first: int, last: int) -> Sequence[Line]:
    """Return the events with the numbers `first` to `last`, in order; a missing one is left out."""
    return [Line(*row) for row in session.execute(_LINES, {"first": first, "last": last})]


def each_line(session: Session, first: int, last: int) -> Iterator[Line]:
    """Yield the same, and hold few of them in memory."""
    for start in range(first, last + 1, HELD_AT_ONCE):
        yield from lines(session, start, min(start + HELD_AT_ONCE - 1, last))


def unpublished(connection: psycopg.Connection, *, limit: int, most_bytes: int) -> tuple[Sequence[Line], Sequence[int], bool]:
    """Return the next events that the topics were not told of, their numbers, those whose event is missing among them, and whether there may be more.

    At most `limit`, and no more than take so many bytes where they are stored, but one.
    """
    rows = connection.execute(_UNPUBLISHED.format(limit=limit, most_bytes=most_bytes)).fetchall()
    more = len(rows) == limit or (bool(rows) and bool(rows[-1][3]))
    return [Line(*row[:3]) for row in rows if row[1] is not None], [row[0] for row in rows], more


def last_number(session: Session) -> int:
    """Return the highest number given, 0 before the first."""
    return session.scalar(select(func.coalesce(func.max(OrderedEvent.number), 0))) or 0


def mark_published(connection: psycopg.Connection, number: int) -> None:
    """Remember that the topics were told of all events up to this number."""
    connection.execute(_PUBLISHED, [number])
