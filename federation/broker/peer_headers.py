"""STOMP headers that a sender asks for by properties of kombu: what message groups, selectors and plain STOMP peers go by; pure."""

import re
from collections.abc import Mapping
from typing import Any

from federation.broker.errors import HeaderRefused

GROUP_PROPERTY, HEADERS_PROPERTY = "message_group", "stomp_headers"
PROPERTIES = frozenset((GROUP_PROPERTY, HEADERS_PROPERTY))
# ActiveMQ groups by the first and does not tell it to the consumer, so the group travels in the second too.
GROUPING_HEADER, GROUP_HEADER = "JMSXGroupID", "message_group"

# These the transport sets itself, or ActiveMQ does for each delivery.
_RESERVED = frozenset(
    (
        *(
            GROUPING_HEADER,
            GROUP_HEADER,
            "destination",
            "content-type",
            "content-length",
            "persistent",
            "priority",
            "expires",
            "receipt",
            "transaction",
        ),
        *("ack", "subscription", "message-id", "redelivered", "timestamp", "original-destination", "AMQ_SCHEDULED_DELAY", "scheduledJobId"),
    )
)
_OURS = ("kombu", "dead_letter")
_BROKERS = ("JMS", "AMQ_")
_SEQUENCE = "JMSXGroupSeq"
# ActiveMQ cuts a connection that sends a longer line.
MOST_LINE_BYTES = 10_000


def remembered(properties: Mapping[str, Any], headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was asked for: as a property, or in the message's headers, where it was put so that Celery's retries bring it again."""
    asked = {name: value for name in PROPERTIES if (value := properties.get(name, headers.get(name)))}
    if not isinstance(asked.get(HEADERS_PROPERTY, {}), Mapping):
        raise HeaderRefused(HEADERS_PROPERTY, "it must be a mapping of names to texts or numbers")
    return asked


def peer_headers(asked: Mapping[str, Any]) -> dict[str, str]:
    """Return the STOMP headers for what `remembered` found.

    Raises HeaderRefused for one that is not the sender's to set, that is too long for ActiveMQ, or that others could not read.
    """
    headers = {str(name): _text(value) for name, value in asked.get(HEADERS_PROPERTY, {}).items()}
    for name, value in headers.items():
        if name in _RESERVED or name.startswith(_OURS):
            raise HeaderRefused(name, "the transport sets it; use the option of apply_async or publish that stands for it")
        if name == _SEQUENCE:
            if not re.fullmatch(r"-?[0-9]{1,9}", value):
                raise HeaderRefused(name, "it must be a whole number")
        elif not name or name.startswith(_BROKERS):
            raise HeaderRefused(name, "ActiveMQ reads it in its own way, and cuts a connection over what it cannot read")
        _check(name, value)
    if group := asked.get(GROUP_PROPERTY):
        _check(GROUP_HEADER, str(group))
        headers |= group_headers(str(group))
    return headers


def group_headers(group: str) -> dict[str, str]:
    """Return the headers that put a message into a group."""
    return {GROUPING_HEADER: group, GROUP_HEADER: group}


def _text(value: Any) -> str:
    # As Java writes them, so that a selector's `flag = 'true'` holds.
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(name: str, value: str) -> None:
    if "\0" in name or "\0" in value:
        raise HeaderRefused(name, "clients of STOMP take a NUL in it for the end of the frame")
    size = len(name.encode()) + 2 * len(value.encode())
    if size > MOST_LINE_BYTES:
        raise HeaderRefused(name, f"it may take {size} bytes on the wire, and ActiveMQ cuts the connection above 10 kB; put it into the body")
