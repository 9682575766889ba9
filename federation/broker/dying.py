"""How a message becomes a dead letter, and what it says of itself then; pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from federation.broker.envelope import FIRST_ID, REDELIVERED, pack_again
from federation.broker.frames import Frame

FROM, REASON, SENT_AT = "dead_letter_from", "dead_letter_reason", "dead_letter_sent_at"
REJECTED = "rejected by its consumer"
# ActiveMQ cuts a connection for a line above 10 kB.
REASON_CHARACTERS = 2000
# What the broker's own dead-letter strategy adds.
_OF_THE_BROKER = ("originalExpiration", "dlqDeliveryFailureCause")


def pack_dead(frame: Frame, destination: str, *, source: str, reason: str) -> dict[str, str]:
    """Return the headers to send a delivered frame to its dead-letter queue: there it stays until somebody comes for it."""
    headers = pack_again(frame, destination)
    headers.pop("expires", None)
    return headers | {"persistent": "true", FROM: source, REASON: _as_header(reason), SENT_AT: frame.headers.get("timestamp", "0")}


def why_rejected(error: BaseException | None, headers: Mapping[str, Any], *, by_celery: bool = False) -> str:
    """Return the reason of a reject during which that error is handled, as Celery's worker does with a task that it does not know.

    `headers` are those of kombu. When a task has asked for the reject, nothing is handled any more, and there is no further reason.
    """
    task = headers.get("task")
    match error:
        # Protocol 1 of Celery has the name in the body.
        case KeyError(args=(str(name),)) if name == task or (by_celery and task is None and name != "task"):
            return f"{REJECTED}: it knows no task {name!r}"
        case KeyError() | TypeError() if task is None and by_celery:
            return f"{REJECTED}: it is no task of Celery ({type(error).__name__}: {error})"
        # No exit, because a worker that ends may reject anything meanwhile.
        case Exception():
            return f"{REJECTED}: {type(error).__name__}: {error}"
        case _:
            return REJECTED


def _as_header(reason: str) -> str:
    # A header holds no NUL and no half of a character.
    return reason[:REASON_CHARACTERS].replace("\0", "\ufffd").encode(errors="replace").decode()


def pack_revived(frame: Frame, destination: str) -> dict[str, str]:
    """Return the headers to send a dead letter back: a new message that may have been delivered before."""
    headers = pack_again(frame, destination)
    for name in (FROM, REASON, SENT_AT, FIRST_ID, "expires", *_OF_THE_BROKER):
        headers.pop(name, None)
    return headers | {"persistent": "true", REDELIVERED: "true"}


def source_of(headers: Mapping[str, str]) -> str | None:
    """Return the destination where a dead letter was before, by our word or the broker's."""
    source = headers.get(FROM) or headers.get("original-destination", "")
    return source if source.startswith("/queue/") else None


def reason_of(headers: Mapping[str, str]) -> str | None:
    """Return why it died; the broker knows it for some of its own only."""
    return headers.get(REASON) or headers.get("dlqDeliveryFailureCause")


def sent_at(headers: Mapping[str, str]) -> datetime | None:
    """Return when it was sent first, by the broker's clock."""
    return _time(headers.get(SENT_AT) or headers.get("timestamp"))


def died_at(headers: Mapping[str, str]) -> datetime | None:
    """Return when it died, by the broker's clock; where the broker moved it by itself, the letter does not tell."""
    return _time(headers.get("timestamp")) if FROM in headers else None


def _time(milliseconds: str | None) -> datetime | None:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds and milliseconds != "0" else None
