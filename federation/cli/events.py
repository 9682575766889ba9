"""`federation events`: what happened, in the one order; goes on from a number, and follows what happens; an operator sees all of it."""

import errno
import json
import os
import re
import select
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from sqlalchemy.orm import Session

from federation.cli.acting import transact_as
from federation.cli.console import console, errors, inert
from federation.cli.operator import transact
from federation.errors import InvalidInput, TransientError
from federation.foreign import one_line
from federation.local.person import person
from federation.services import events as log
from federation.services.events import Chosen
from federation.store.event_order import Line

SHOWN: Final = 50
AT_ONCE: Final = 500
# Numbers are given without a notice; to ask whether there is a new one is one look at an index.
LOOK_S, RETRY_S = 0.2, 1.0
_LONGEST_VALUE, _LONGEST = 60, 200
# UUIDs and digests; so much of one is enough to know it again.
_LONG_DIGITS = re.compile(r"\b([0-9a-f]{8})[0-9a-f-]{24,}\b")
_NOT_PLAIN = re.compile(r"[^ -~]")


def events(
    *,
    after: Annotated[int | None, typer.Option(min=0, metavar="NUMBER", help="Go on behind this number; 0: from the first event on.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", metavar="TYPE", help="Only of this type, or such as task.*; may be repeated.")] = None,
    conversation: Annotated[str | None, typer.Option("--conversation", metavar="NAME", help="Only what belongs to this conversation.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help=f"How many at most: the latest, with --after the next; {SHOWN} unless --follow leads on.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and show what happens, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object a line, as the topics have it.")] = False,
) -> None:
    """Show what happened: number, time, actor, type, stream#position and payload, the oldest first.

    As an operator: of all conversations. It is there when beat has given it its number.
    """
    most = SHOWN if limit is None else limit
    if follow and after is not None and limit is not None:
        raise InvalidInput("--limit", limit, "to be left out where --after and --follow are given: all that came since is shown")
    if limit == 0 and not follow:
        raise InvalidInput("--limit", limit, "1 or more; with --follow 0 is right, for nothing but what happens from now on")

    def begin(session: Session) -> tuple[Chosen, int]:
        which = log.chosen(session, types=types or (), conversation_id=conversation)
        if after is None:
            return which, log.before_latest(session, which, most)
        log.require_place(session, after)
        return which, after

    which, place = transact(begin)
    if follow:
        for page in _following(which, place):
            _show(page.lines, as_json=as_json)
        return
    shown = 0
    while True:
        page = _read(which, place, min(AT_ONCE, most - shown))
        _show(page.lines, as_json=as_json)
        place, shown = page.reached, shown + len(page.lines)
        if not page.more or shown == most:
            break
    if not shown and not as_json:
        console.print("There is no such event.")
    if page.more:
        errors.print(f"(more: --after {place})")


def _read(which: Chosen, place: int, limit: int = AT_ONCE) -> log.Page:
    return transact_as(person(), lambda session: log.page(session, which, after=place, limit=limit))


def _following(which: Chosen, place: int) -> Iterator[log.Page]:
    """Yield what happens behind a number, for ever, each event once: over a PostgreSQL that goes away, too."""
    away = False
    while True:
        try:
            page = _read(which, place)
        except TransientError as error:
            if not away:
                errors.print(inert(f"federation: {error}; it is tried again, and goes on after {place}"))
            away = True
            _wait(RETRY_S)
            continue
        if away:
            errors.print(f"federation: PostgreSQL answers again, after {place}")
        away, place = False, page.reached
        yield page
        if not page.more:
            _wait(LOOK_S)


def _wait(seconds: float) -> None:
    """Let so much time pass. Raises BrokenPipeError as soon as nobody reads any more, which a write would notice at the next event alone."""
    output = select.poll()
    # What is wrong with it is told without being asked for.
    output.register(sys.stdout.fileno(), 0)
    if output.poll(seconds * 1000):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _show(lines: Sequence[Line], *, as_json: bool) -> None:
    written = _plain if as_json else _in_short
    sys.stdout.writelines(f"{written(line.text)}\n" for line in lines)
    sys.stdout.flush()


def _plain(text: str) -> str:
    """Return the same JSON in ASCII: what could command a terminal stands in strings, and is written as JSON writes it."""
    return _NOT_PLAIN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _in_short(text: str) -> str:
    told = json.loads(text)
    at = datetime.fromisoformat(told["at"]).astimezone()
    place = f"{told['stream']}#{told['position']}"
    # What the name of the stream says already is not said again.
    left_out: tuple[Any, ...] = (None, "", [], {}, told["stream"].partition(":")[2])
    words = (f"{name}={_value(value)}" for name, value in told["payload"].items() if name != "version" and value not in left_out)
    payload = _cut(" ".join(words), _LONGEST)
    return one_line(f"{told['number']:>7}  {at:%Y-%m-%d %H:%M:%S}  {told['actor']:<14}  {told['type']:<22}  {place}  {payload}").rstrip()


def _value(value: Any) -> str:
    return _cut(_LONG_DIGITS.sub(r"\1…", json.dumps(value, ensure_ascii=False)), _LONGEST_VALUE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
