"""The transport options of kombu that this transport knows, read once for each connection; tells of names that nobody knows."""

import difflib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from federation.broker.errors import WHERE_OPTIONS_ARE, OptionRefused, OptionUnknown
from federation.broker.frames import MAX_FRAME_BYTES
from federation.broker.redelivery import Hook

logger = logging.getLogger(__name__)

SECONDS_TO_CONNECT = 5.0
# A poll counts milliseconds in 31 bits.
MOST_SECONDS = 1_000_000
# The broker's answer to a login must fit.
LEAST_FRAME_BYTES = 1000
EVENT_EXCHANGES = ("celeryev",)


@dataclass(frozen=True, slots=True)
class Options:
    """What `broker_transport_options` may set.

    queue_prefix, topic_prefix: put before each name, after `/queue/` and `/topic/`.
    confirm_publish: wait for ActiveMQ's receipt for each persistent message; False trades safety for speed.
    confirm_timeout: seconds to wait for a receipt.
    heartbeat: seconds between heart-beats both ways; None takes kombu's `heartbeat=`; 0 turns them off.
    max_frame_size: largest frame in bytes, headers included, to be kept equal to the connector's `wireFormat.maxFrameSize`.
    unlimited_prefetch: messages on their way to a consumer that has set no prefetch count.
    schedule_eta: leave messages with an ETA to the broker's scheduler until they are due; False leaves them to the memory of a worker.
    dead_letter_queue: where rejected and quarantined messages go, `{queue}` being the broker's name of theirs; empty: as the broker's policy says.
    on_redelivered: a function, or `module:function`, that is asked about each redelivered message before it is handed over; see Quarantine.
    event_exchanges: more topic exchanges that live in the broker as topics, as Celery's events do: whoever listens in any process has a copy.
    """

    queue_prefix: str = ""
    topic_prefix: str = ""
    confirm_publish: bool = True
    confirm_timeout: float = 30.0
    heartbeat: float | None = None
    max_frame_size: int = MAX_FRAME_BYTES
    unlimited_prefetch: int = 1000
    schedule_eta: bool = True
    dead_letter_queue: str = "DLQ.{queue}"
    on_redelivered: Hook | str | None = None
    event_exchanges: tuple[str, ...] = EVENT_EXCHANGES


_QUEUE = "{queue}"
# A brace is a slip of the pen; the others ActiveMQ reads as several queues or as options.
_NO_NAME = frozenset("{},*>?")


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= MOST_SECONDS


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(name, str) and name for name in value)


def _is_dead_letter_queue(value: Any) -> bool:
    # With nothing beside it `{queue}` is the queue itself; ActiveMQ takes no notice of blanks at either end.
    return isinstance(value, str) and value == value.strip() != _QUEUE and not _NO_NAME & set(value.replace(_QUEUE, ""))


_TEXT = (lambda value: isinstance(value, str), "a text")
_YES_OR_NO = (lambda value: isinstance(value, bool), "True or False")
_WANTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "queue_prefix": _TEXT,
    "topic_prefix": _TEXT,
    "dead_letter_queue": (
        _is_dead_letter_queue,
        "the name of another queue, which may have `{queue}` with more beside it, no other braces and nothing of , * > ?; or empty",
    ),
    "confirm_publish": _YES_OR_NO,
    "schedule_eta": _YES_OR_NO,
    "confirm_timeout": (lambda value: _is_seconds(value) and value > 0, f"a number of seconds above 0, up to {MOST_SECONDS}"),
    "heartbeat": (lambda value: value is None or _is_seconds(value), f"a number of seconds up to {MOST_SECONDS}, 0 for none, or None"),
    "max_frame_size": (lambda value: _is_count(value, LEAST_FRAME_BYTES), f"a whole number of bytes, {LEAST_FRAME_BYTES} or more"),
    "unlimited_prefetch": (_is_count, "a whole number above 0: ActiveMQ delivers nothing to a consumer without prefetch"),
    "on_redelivered": (
        lambda value: value is None or callable(value) or (isinstance(value, str) and ":" in value),
        "a function or 'module:function'",
    ),
    "event_exchanges": (_is_names, "a list of names"),
}


# Read by kombu from the same mapping, or put there by it: publishing with a retry policy copies that into the options of its connection.
_OF_KOMBU = frozenset(
    (
        *("max_retries", "interval_start", "interval_step", "interval_max", "connect_retries_timeout"),
        *("errback", "callback", "on_revive", "retry_errors", "deadletter_queue"),
    )
)
# So alike is a slip of the pen; none of those that kombu's other transports know comes so near.
_MISSPELT, _NEAR = 0.85, 0.7
_told: set[str] = set()


def _nearest(name: str, known: list[str], cutoff: float) -> list[str]:
    return difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=cutoff)


def read_options(given: Mapping[str, Any]) -> Options:
    """Pick our options out of kombu's. Raises OptionRefused for a wrong value, OptionUnknown for a name that is one of ours misspelt."""
    known = [field.name for field in fields(Options)]
    for name, value in given.items():
        if name in known:
            fits, wanted = _WANTED[name]
            if not fits(value):
                raise OptionRefused(name, value, wanted)
        elif name not in _OF_KOMBU and (near := _nearest(str(name), known, _MISSPELT)):
            raise OptionUnknown(str(name), near[0])
    taken = {name: value for name, value in given.items() if name in known}
    # Without those of Celery its events would reach nobody.
    taken["event_exchanges"] = (*EVENT_EXCHANGES, *taken.get("event_exchanges", ()))
    return Options(**taken)


def tell_unknown(given: Mapping[str, Any]) -> None:
    """Log once in a process each name that means nothing here; most are left from another broker, whose transports ignore ours as well."""
    known = [field.name for field in fields(Options)]
    for name in map(str, given):
        if name not in known and name not in _OF_KOMBU and name not in _told:
            _told.add(name)
            near = "".join(f"; the nearest is {one}" for one in _nearest(name, known, _NEAR))
            logger.warning("transport option %s is not known and has no effect with ActiveMQ%s; %s", name, near, WHERE_OPTIONS_ARE)


def tell_path(path: str) -> None:
    """Log once in a process each path behind the port of a URL: with other brokers it keeps projects apart, and here it does not."""
    if path.strip("/") and path not in _told:
        _told.add(path)
        logger.warning("the path %s of the broker URL has no effect: ActiveMQ has no virtual hosts; `queue_prefix` keeps projects apart", path)
