"""Dead letters: listed without being taken, sent back to where they were, or removed; each call opens a connection of its own."""

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from federation.broker import destinations
from federation.broker.connection import StompConnection
from federation.broker.dying import died_at, pack_revived, reason_of, sent_at, source_of
from federation.broker.envelope import unpack
from federation.broker.errors import NoDeadLetterQueue, QueueUnknown
from federation.broker.fetching import drain_queue
from federation.broker.frames import Frame, encode
from federation.broker.opening import own_transport
from federation.broker.options import Options
from federation.broker.peeking import browse_first, peek
from federation.broker.transport import Transport

SECONDS_TO_COMMIT = 60.0
# One transaction of a redrive; the broker holds it in memory until it is committed.
MOST_IN_TRANSACTION = 100
MOST_BYTES_IN_TRANSACTION = 8_000_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody will get by itself any more.

    `queue` is None where nobody knows whence it came; `reason` and `died_at` are None where the broker's own policy put it there;
    `task` and `task_id` are None where Celery did not send it; `headers` are those of kombu.
    """

    id: str
    queue: str | None
    dead_letter_queue: str
    reason: str | None
    died_at: datetime | None
    sent_at: datetime | None
    task: str | None
    task_id: str | None
    headers: dict[str, Any]
    body: bytes


def dead_letter_queues(connection: Any) -> dict[str, int]:
    """Return the number of dead letters of each dead-letter queue that has some, by the queue's name in the broker.

    Raises StatisticsMissing if the broker cannot tell sizes, NoDeadLetterQueue.
    """
    with own_transport(connection) as transport:
        options = transport.options
        _template(options)
        sizes = transport.statistics().sizes()
    named = {name.removeprefix("/queue/"): size.waiting + size.in_flight for name, size in sizes.items()}
    return {name: number for name, number in sorted(named.items()) if number and _is_named_so(options, name)}


def list_dead_letters(connection: Any, queue: str, *, limit: int = 400) -> Iterator[DeadLetter]:
    """Yield the first `limit` dead letters of a kombu queue, the oldest first; while this runs, nobody else sees them.

    `queue` may be the broker's name of a dead-letter queue too, here and below: then all in it are meant.
    The broker reads what is listed into its memory. Raises NoDeadLetterQueue, ConnectionLost or RequestRefused.
    """
    place = _find(connection, queue)
    with own_transport(connection) as transport:
        for frame in _of(transport, place, limit):
            yield _read(frame, transport.options.queue_prefix)


def redrive(connection: Any, queue: str, *, only: str | None = None, on_progress: Progress | None = None) -> int:
    """Send the dead letters of a kombu queue back to it, or the one whose id is `only`; return how many were sent.

    Each is sent and taken in one transaction of the broker, a hundred at a time, so none is lost or doubled. What dies again
    meanwhile is left. `on_progress` is told how many are done and how many there were.
    Raises NoDeadLetterQueue, ConnectionLost or RequestRefused.
    """
    place = _find(connection, queue)
    with own_transport(connection) as transport:
        total = _waiting(transport, place)
        done = 0
        for frames in _batches(frame for frame in _of(transport, place, total) if only in (None, frame.headers["message-id"])):
            _move(transport.wire, frames)
            done += len(frames)
            if on_progress is not None:
                on_progress(done, 1 if only else total)
            if only:
                break
        return done


def purge_dead_letters(connection: Any, queue: str) -> int:
    """Remove the dead letters of a kombu queue for good; return how many that were.

    Raises NoDeadLetterQueue where the queue shares its dead letters with others, ConnectionLost or RequestRefused.
    """
    place = _find(connection, queue)
    with own_transport(connection) as transport:
        if place.source is not None:
            shared = _template(transport.options)
            raise NoDeadLetterQueue(
                f"the dead letters of {queue!r} lie among those of other queues in {shared!r}; all of them can be purged, under the name {shared!r}"
            )
        return drain_queue(transport.wire, place.destination, transport.statistics_or_none())


def see_queue(connection: Any, queue: str) -> None:
    """Make sure that the broker has a kombu queue or dead letters of it, where it can tell. Raises QueueUnknown, which names the nearest."""
    with own_transport(connection) as transport:
        statistics = transport.statistics_or_none()
        if statistics is None:
            return
        options = transport.options
        sizes = statistics.sizes()
    shared = "{queue}" not in _template(options)
    own, dead = destinations.queue(queue, options.queue_prefix), _dead_letter_queue(options, queue)
    if own in sizes or (dead in sizes and not shared) or queue == _template(options):
        return
    if f"/queue/{queue}" in sizes and _is_named_so(options, queue):
        return
    dead_name = re.compile("(.+)".join(map(re.escape, _template(options).split("{queue}", 1))))
    named: dict[str, str] = {}
    for name in (destination.removeprefix("/queue/") for destination in sizes if destination != dead):
        letters = dead_name.fullmatch(name)
        named[name] = destinations.queue_name(letters[1] if letters else name, options.queue_prefix)
    # Who has copied the broker's own name means the queue behind it.
    nearest = [named[queue]] if queue in named else difflib.get_close_matches(queue, sorted(set(named.values())), n=3)
    raise QueueUnknown(queue, nearest)


def _template(options: Options) -> str:
    if not options.dead_letter_queue:
        raise NoDeadLetterQueue("the transport option dead_letter_queue is empty, so the broker's policy alone knows where dead letters are; set it")
    return options.dead_letter_queue


def _dead_letter_queue(options: Options, queue: str) -> str:
    return destinations.dead_letters(destinations.queue(queue, options.queue_prefix), _template(options))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where dead letters lie; with a `source` they are those alone that were there."""

    destination: str
    source: str | None = None


def _find(connection: Any, queue: str) -> _Place:
    with own_transport(connection) as transport:
        options = transport.options
        own, itself = _dead_letter_queue(options, queue), f"/queue/{queue}"
        if "{queue}" not in _template(options):
            return _Place(own) if itself == own else _Place(own, destinations.queue(queue, options.queue_prefix))
        if _is_named_so(options, queue) and destinations.queue(destinations.decode_name(queue)) == itself:
            # A queue of tasks may be named so too, and must not be taken for one of letters; and to browse a queue makes it.
            first = browse_first(transport.wire, itself) if _waiting(transport, _Place(itself)) else None
            if first is not None and _died_into(options, first) == itself:
                return _Place(itself)
        return _Place(own)


def _is_named_so(options: Options, name: str) -> bool:
    return re.fullmatch(".+".join(map(re.escape, _template(options).split("{queue}"))), name) is not None


def _died_into(options: Options, frame: Frame) -> str | None:
    source = source_of(frame.headers)
    return None if source is None else destinations.dead_letters(source, options.dead_letter_queue)


def _waiting(transport: Transport, place: _Place) -> int:
    statistics = transport.statistics_or_none()
    size = statistics.size(place.destination) if statistics else None
    # Without statistics nothing but silence tells the end.
    return size.waiting if size is not None else 0 if statistics else 1_000_000


def _of(transport: Transport, place: _Place, limit: int) -> Iterator[Frame]:
    for frame in peek(transport.wire, place.destination, min(limit, _waiting(transport, place))):
        if place.source in (None, source_of(frame.headers)):
            yield frame


def _batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    size = 0
    for frame in frames:
        if source_of(frame.headers) is not None:
            batch.append(frame)
            size += len(frame.body)
        if len(batch) >= MOST_IN_TRANSACTION or size >= MOST_BYTES_IN_TRANSACTION:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _move(wire: StompConnection, frames: list[Frame]) -> None:
    transaction = {"transaction": wire.next_id()}
    pieces = [encode("BEGIN", transaction)]
    for frame in frames:
        back = pack_revived(frame, source_of(frame.headers) or "")
        pieces += [encode("SEND", {**back, **transaction}, frame.body), encode("ACK", {"id": frame.headers["ack"], **transaction})]
    receipt = wire.next_id()
    pieces.append(encode("COMMIT", {**transaction, "receipt": receipt}))
    wire.request(b"".join(pieces), receipt, SECONDS_TO_COMMIT)


def _read(frame: Frame, prefix: str) -> DeadLetter:
    source = source_of(frame.headers)
    queue = destinations.queue_name(source, prefix) if source else None
    headers = unpack(frame, queue or "")["headers"]
    return DeadLetter(
        id=frame.headers["message-id"],
        queue=queue,
        dead_letter_queue=frame.headers["destination"].removeprefix("/queue/"),
        reason=reason_of(frame.headers),
        died_at=died_at(frame.headers),
        sent_at=sent_at(frame.headers),
        task=headers.get("task"),
        task_id=headers.get("id"),
        headers=headers,
        body=frame.body,
    )
