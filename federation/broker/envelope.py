"""A kombu message as STOMP headers and raw body, and back; whatever it cannot read becomes a message all the same, and is never lost."""

import json
import time
from collections.abc import Mapping
from typing import Any

from kombu.utils import json as kombu_json

from federation.broker.delays import DELAY, JOB_ID, delay_ms
from federation.broker.errors import HeaderRefused, MessageTooLarge
from federation.broker.frames import Frame, encode
from federation.broker.peer_headers import GROUP_HEADER, PROPERTIES, group_headers, peer_headers, remembered

ENVELOPE = "kombu"
REDELIVERED = "kombu_redelivered"
FIRST_ID = "kombu_first_id"
# ActiveMQ drops a connection whose header line is longer than 10 kB. A quarter of the line is kept free for escapes.
HEADER_CHARACTERS = 7000
# ActiveMQ reads 1,000 headers, of which some are added when a message is sent, moved or dies.
_MOST_HEADERS = 985
# A receipt and a transaction are added to what was packed, and what tells its story when it comes back or dies.
_ADDED_LATER = 500
_ROOM_FOR_THE_REST = 5000
_MOST_MILLISECONDS = 1000 * 366 * 86_400_000
# Of these the receiver makes its own, or they travel as STOMP headers or in the body.
_LOCAL_PROPERTIES = frozenset(("delivery_tag", "body_encoding", "delivery_info", *PROPERTIES))
# What a MESSAGE carries for one delivery only. A broker without scheduler leaves the delay in it.
_OF_ONE_DELIVERY = frozenset(
    ("ack", "subscription", "message-id", "content-length", "redelivered", "timestamp", "destination", "original-destination", DELAY, JOB_ID)
)
FOREIGN_HEADERS = "stomp"


def _dump(value: Mapping[str, Any]) -> str:
    try:
        # ASCII, so that no header holds a character that Java writes in another way.
        return json.dumps(value, separators=(",", ":"))
    except TypeError:
        # kombu knows dates, UUIDs and the like.
        return str(kombu_json.dumps(value))


def _load(text: str) -> Any:
    return kombu_json.loads(text) if '"__type__"' in text else json.loads(text)


def _escaped_pieces(text: str) -> list[str]:
    pieces, start = [], 0
    while start < len(text):
        # Each backslash and colon is two bytes on the wire.
        end = start + HEADER_CHARACTERS
        while end > start + 1 and end - start + (piece := text[start:end]).count(":") + piece.count("\\") > HEADER_CHARACTERS + 2000:
            end = start + (end - start) * 3 // 4
        pieces.append(text[start:end])
        start = end
    return pieces


def pack(message: Mapping[str, Any], destination: str, *, max_bytes: int, schedule: bool = True) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a SEND; with `schedule` the broker keeps what has an ETA until it is due.

    Raises MessageTooLarge or HeaderRefused.
    """
    properties = message["properties"]
    body = message["body"]
    if isinstance(body, str):
        body = body.encode()
    info = properties.get("delivery_info") or {}
    asked = remembered(properties, message["headers"])
    text = _dump(
        {
            "headers": {**message["headers"], **asked},
            "properties": {name: value for name, value in properties.items() if name not in _LOCAL_PROPERTIES},
            "content_encoding": message["content-encoding"],
            "exchange": info.get("exchange", ""),
            "routing_key": info.get("routing_key", ""),
        }
    )
    headers = {"destination": destination, "content-type": message["content-type"] or "application/data", **_envelope_headers(text)}
    if asked:
        headers |= peer_headers(asked)
    headers["priority"] = str(_priority(properties.get("priority")))
    if is_persistent(message):
        headers["persistent"] = "true"
    if properties.get("expiration"):
        headers["expires"] = str(int(time.time() * 1000) + _milliseconds(properties["expiration"]))
    if schedule and (delay := delay_ms(message["headers"])):
        # ActiveMQ counts the time to live anew from the ETA, so it expires later here than asked, and never earlier.
        # Celery's worker looks at the task's own `expires`, which is exact.
        headers[DELAY] = str(delay)
    if asked or len(body) + 2 * len(text) > max_bytes - _ROOM_FOR_THE_REST or len(headers) > _MOST_HEADERS:
        _check_size(headers, body, max_bytes)
    return headers, body


def _envelope_headers(text: str) -> dict[str, str]:
    if len(text) <= HEADER_CHARACTERS // 2:
        return {ENVELOPE: text}
    return {f"{ENVELOPE}_{number}" if number else ENVELOPE: piece for number, piece in enumerate(_escaped_pieces(text))}


def _priority(wanted: Any) -> int:
    try:
        # As with RabbitMQ and Redis, what is above the highest counts as the highest.
        return min(9, max(0, int(wanted or 0)))
    except (TypeError, ValueError, OverflowError):
        raise HeaderRefused("priority", "a priority is a whole number; 0 to 9 are told apart") from None


def _milliseconds(expiration: Any) -> int:
    try:
        wanted = int(expiration)
    except (ValueError, OverflowError):
        wanted = -1
    if not 0 <= wanted <= _MOST_MILLISECONDS:
        raise HeaderRefused("expires", "an expiration is a number of seconds, up to a thousand years")
    return wanted


def _check_size(headers: Mapping[str, str], body: bytes, max_bytes: int) -> None:
    if len(headers) > _MOST_HEADERS:
        raise HeaderRefused(ENVELOPE, "all headers together may take 7 MB and 1,000 lines; put it into the body")
    # What the broker counts is the whole frame.
    size = len(encode("SEND", {**headers, "content-length": str(len(body))})) + len(body) + _ADDED_LATER
    if size > max_bytes:
        raise MessageTooLarge(size, max_bytes)


def is_persistent(message: Mapping[str, Any]) -> bool:
    """Whether a message must outlive the broker; unless it says so itself, it must."""
    return message["properties"].get("delivery_mode") not in (1, "1", "transient")


def first_id(frame: Frame) -> str:
    """Return the id that ActiveMQ gave a message when it was sent first; a requeue sends it again, under another."""
    return frame.headers.get(FIRST_ID) or frame.headers.get("message-id", "")


def pack_again(frame: Frame, destination: str) -> dict[str, str]:
    """Return the headers to send a delivered frame once more, marked as redelivered."""
    headers = {name: value for name, value in frame.headers.items() if name not in _OF_ONE_DELIVERY}
    headers[FIRST_ID] = first_id(frame)
    if group := headers.get(GROUP_HEADER):
        headers |= group_headers(group)
    headers["destination"] = destination
    headers[REDELIVERED] = "true"
    return headers


def pack_moved(frame: Frame, destination: str, queue: str) -> dict[str, str]:
    """Return the headers to send a message to another kombu queue, of which it then speaks; redelivered only if it was before."""
    headers = pack_again(frame, destination)
    if not is_redelivered(frame):
        del headers[REDELIVERED]
    envelope = _read_envelope(frame.headers)
    # One that came by an exchange tells of that, wherever it lies.
    if envelope is not None and not envelope.get("exchange"):
        headers = {name: value for name, value in headers.items() if not _is_of_envelope(name)}
        headers |= _envelope_headers(_dump({**envelope, "routing_key": queue}))
    return headers


def _is_of_envelope(name: str) -> bool:
    return name == ENVELOPE or (name.startswith(f"{ENVELOPE}_") and name.removeprefix(f"{ENVELOPE}_").isdigit())


def is_redelivered(frame: Frame) -> bool:
    """Whether somebody may have had this message before, said by the broker or by our own requeue."""
    return frame.headers.get("redelivered") == "true" or frame.headers.get(REDELIVERED) == "true"


def _read_envelope(headers: Mapping[str, str]) -> dict[str, Any] | None:
    text = headers.get(ENVELOPE)
    if text is None:
        return None
    number = 1
    while more := headers.get(f"{ENVELOPE}_{number}"):
        text += more
        number += 1
    try:
        envelope = _load(text)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    fits = isinstance(envelope, dict) and isinstance(envelope.get("headers"), dict) and isinstance(envelope.get("properties"), dict)
    # Celery looks the task up by this header, and a worker dies of one that cannot be a key.
    return envelope if fits and not isinstance(envelope["headers"].get("task"), dict | list) else None


def unpack(frame: Frame, queue: str) -> dict[str, Any]:
    """Return the arguments of kombu's Message, except channel and tags.

    A message that kombu did not send has its STOMP headers under headers["stomp"], its raw body, and a content type that
    Celery passes on undecoded: the worker takes it for an unknown message and rejects it, whatever it says of itself.
    """
    envelope = _read_envelope(frame.headers)
    if envelope is None:
        return {
            "body": frame.body,
            "content_type": "application/data",
            "content_encoding": "binary",
            "headers": {FOREIGN_HEADERS: dict(frame.headers)},
            "properties": {},
            "delivery_info": {"exchange": "", "routing_key": queue, "redelivered": is_redelivered(frame)},
        }
    properties = envelope["properties"]
    info = {
        "exchange": str(envelope.get("exchange", "")),
        "routing_key": str(envelope.get("routing_key", queue)),
        "redelivered": is_redelivered(frame),
        "priority": properties.get("priority", 0),
        # ActiveMQ's own word, which no sender can choose.
        "message_id": frame.headers.get("message-id"),
    }
    return {
        "body": frame.body,
        "content_type": frame.headers.get("content-type"),
        "content_encoding": envelope.get("content_encoding"),
        "headers": envelope["headers"],
        "properties": {**properties, "delivery_info": info},
        "delivery_info": info,
    }
