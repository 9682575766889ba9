"""Compares the event log with its seals, and says which event was changed, removed, inserted or moved; looks at each signature of a statement.

Changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import zip_longest

from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.security import merkle
from federation.security.seals import Seal
from federation.security.signing import PublicKey
from federation.services import seals, statements
from federation.store import event_order
from federation.store.event_order import Line

# Of so many events that do not match it is worked out whether they only changed places.
MOST_COMPARED = 500

Progress = Callable[[int, int], None]


class Kind(StrEnum):
    """What was done to the log."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    MOVED = "moved"
    SEAL = "seal"
    CUT = "cut"
    STATEMENT = "statement"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; `number` is the event's in the one order, None where it has none or many are meant."""

    kind: Kind
    number: int | None
    text: str


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong with it; `unsealed` events have a number and no seal yet, `unnumbered` not even that."""

    events: int = 0
    sealed: int = 0
    unsealed: int = 0
    unnumbered: int = 0
    seals: int = 0
    filed: int | None = None
    findings: list[Finding] = field(default_factory=list)


# Events that were there before the sequence was settled have their numbers; one that appears later, below it, came by another way.
_UNNUMBERED = text(
    """
    SELECT e.id, e.stream, e.position FROM events e, event_relay r
    WHERE e.sequence <= r.settled AND NOT EXISTS (SELECT FROM event_order o WHERE o.sequence = e.sequence) ORDER BY e.sequence
    """
)
_NEWEST = text(
    """
    SELECT count(*) FROM events e, event_relay r
    WHERE e.sequence > r.settled AND NOT EXISTS (SELECT FROM event_order o WHERE o.sequence = e.sequence)
    """
)
_WITHOUT_EVENT = text("SELECT number FROM event_order o WHERE NOT EXISTS (SELECT FROM events e WHERE e.sequence = o.sequence) ORDER BY number")
_BEFORE_THE_FIRST = text("SELECT number FROM event_order WHERE number < 1 ORDER BY number")
_STREAMS = text(
    """
    SELECT coalesce(s.name, e.stream) AS name, s.position AS counted, e.last, e.events
    FROM streams s FULL JOIN (SELECT stream, max(position) AS last, count(*) AS events FROM events GROUP BY stream) e ON e.stream = s.name
    WHERE e.stream IS NOT NULL AND (s.position IS DISTINCT FROM e.last OR e.last <> e.events) ORDER BY 1
    """
)
_LEAVES = text("SELECT number, leaf FROM event_order WHERE number BETWEEN :first AND :last ORDER BY number")


def verify(session: Session, key: PublicKey, *, filed: Sequence[Seal] | None, progress: Progress = lambda done, total: None) -> Report:
    """Look at all events, seals and statements; `filed` are the seals from the file outside of the database, None to do without.

    With the file every change to an event that it has sealed is found; a file may be older than the database, as a copy is. Without it
    a tail that was cut off together with its seals is not found.
    """
    report = Report(events=event_order.last_number(session), filed=None if filed is None else len(filed))
    for seal in _trusted(session, key, filed, report):
        _compare(session, seal, report)
        report.sealed = seal.last
        progress(seal.last, report.events)
    report.unnumbered = session.execute(_NEWEST).scalar_one()
    _look_at_the_unsealed(session, report)
    _look_at_the_rest(session, report)
    report.findings += (Finding(Kind.STATEMENT, None, flaw) for flaw in statements.unsound(session))
    return report


def _trusted(session: Session, key: PublicKey, filed: Sequence[Seal] | None, report: Report) -> Iterator[Seal]:
    """Yield the seals that hold, from the file where it has them, and report the others."""
    former: Seal | None = None
    broken = False
    for stored, kept in zip_longest(_stored(session), filed or ()):
        report.seals += stored is not None
        number = (kept or stored).number
        if stored is None:
            report.findings.append(
                Finding(Kind.CUT, kept.first, f"seal {number} over events {kept.first} to {kept.last} is in the file and not in the database")
            )
        elif kept is not None and stored != kept:
            report.findings.append(Finding(Kind.SEAL, None, f"seal {number} in the database is not the one in the file"))
        if broken:
            continue
        flaws = {}
        for origin, seal in (("the file", kept), ("the database", stored)):
            if seal is None:
                continue
            flaw = seal.flaw(former, key)
            if flaw is None:
                former = seal
                yield seal
                break
            flaws[origin] = flaw
        else:
            broken = True
        report.findings += (Finding(Kind.SEAL, None, f"seal {number} in {origin}: {flaw}") for origin, flaw in flaws.items())
        if broken:
            after = "nothing is" if former is None else f"only what is up to event {former.last} is"
            report.findings.append(Finding(Kind.SEAL, None, f"no seal {number} holds, so {after} proven"))


def _stored(session: Session) -> Iterator[Seal]:
    number = 0
    while found := seals.after(session, number):
        yield from found
        number = found[-1].number


def _compare(session: Session, seal: Seal, report: Report) -> None:
    leaves = dict(enumerate(merkle.split(seal.leaves), seal.first))
    wrong: dict[int, Line | None] = dict.fromkeys(leaves)
    for there in event_order.each_line(session, seal.first, seal.last):
        if _leaf(there) == leaves.get(there.number):
            del wrong[there.number]
        else:
            wrong[there.number] = there
    if not wrong:
        return
    homes = _homes(wrong, leaves) if len(wrong) <= MOST_COMPARED else {}
    for number, line in wrong.items():
        if line is None:
            home = next((other for other, its in homes.items() if its == number), None)
            moved = f", and its event stands at {home}" if home is not None else ""
            report.findings.append(Finding(Kind.REMOVED, number, f"event {number} is missing{moved}"))
        elif number in homes:
            report.findings.append(Finding(Kind.MOVED, number, f"the event at {number} was sealed as {homes[number]}: {_told(line)}"))
        else:
            report.findings.append(Finding(Kind.CHANGED, number, f"event {number} is not what was sealed: {_told(line)}"))


def _homes(wrong: Mapping[int, Line | None], leaves: Mapping[int, bytes]) -> dict[int, int]:
    """Return for events that match a leaf under another number that number."""
    wanted = {leaves[number]: number for number in wrong}
    found = {}
    for number, line in wrong.items():
        for other in wrong:
            if line is not None and other != number and wanted.get(_leaf(replace(line, text=_renumbered(line.text, number, other)))) == other:
                found[number] = other
                break
    return found


def _renumbered(line: str, number: int, other: int) -> str:
    return line.replace(f'"number": {number},', f'"number": {other},', 1)


def _look_at_the_unsealed(session: Session, report: Report) -> None:
    """Compare the events after the last seal with the hashes that were taken when they got their numbers."""
    first = report.sealed + 1
    while first <= report.events:
        last = min(first + event_order.HELD_AT_ONCE - 1, report.events)
        lines = {line.number: line for line in event_order.lines(session, first, last)}
        leaves: dict[int, bytes] = dict(session.execute(_LEAVES, {"first": first, "last": last}).all())
        for number in range(first, last + 1):
            if number not in leaves:
                report.findings.append(Finding(Kind.REMOVED, number, f"number {number} was given and is missing in event_order"))
            elif number in lines and _leaf(lines[number]) != leaves[number]:
                report.findings.append(Finding(Kind.CHANGED, number, f"event {number} is not what it was: {_told(lines[number])}"))
        report.unsealed += len(leaves)
        first = last + 1


def _look_at_the_rest(session: Session, report: Report) -> None:
    known = {finding.number for finding in report.findings if finding.kind is Kind.REMOVED}
    for row in session.execute(_WITHOUT_EVENT):
        if row.number not in known:
            report.findings.append(Finding(Kind.REMOVED, row.number, f"event {row.number} is missing"))
    for row in session.execute(_BEFORE_THE_FIRST):
        report.findings.append(Finding(Kind.INSERTED, row.number, f"event_order has a number {row.number}, before the first"))
    for row in session.execute(_UNNUMBERED):
        report.findings.append(Finding(Kind.INSERTED, None, f"event {row.id} ({row.stream}, position {row.position}) came past the order of events"))
    for row in session.execute(_STREAMS):
        counted = row.counted or 0
        kind = Kind.CUT if counted > row.last else Kind.REMOVED if counted == row.last else Kind.INSERTED
        text_ = f"stream {row.name} has {row.events} events up to position {row.last}, and {counted} positions were given"
        report.findings.append(Finding(kind, None, text_))


def _leaf(line: Line) -> bytes:
    return merkle.leaf(line.text.encode())


def _told(line: Line) -> str:
    return line.text if len(line.text) <= 200 else line.text[:199] + "…"
