"""kombu's `Queue(consumer_arguments=…)` as headers of SUBSCRIBE: selector, exclusive consumer, consumer priority; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from federation.broker.errors import ArgumentRefused

PRIORITIES = range(-128, 128)
# A header line may have 10 kB, and escapes may double each of these.
_MOST_SELECTOR_BYTES = 4900


@dataclass(frozen=True, slots=True)
class ConsumerArguments:
    """The headers for each SUBSCRIBE of a consumer; with `exclusive` it has one subscription only, because the broker serves no second."""

    headers: Mapping[str, str] = field(default_factory=dict)
    exclusive: bool = False


def read_arguments(given: Mapping[str, Any] | None) -> ConsumerArguments:
    """Read `selector` (text), `exclusive` (true or false) and RabbitMQ's `x-priority`; other `x-` arguments are for other brokers.

    Raises ArgumentRefused.
    """
    headers: dict[str, str] = {}
    exclusive = False
    for name, value in (given or {}).items():
        match name:
            case "selector":
                if not isinstance(value, str) or not value.strip():
                    raise ArgumentRefused(name, value, "it must be a condition such as \"region = 'eu'\"")
                if len(value.encode()) > _MOST_SELECTOR_BYTES:
                    raise ArgumentRefused(name, f"{value[:40]}…", f"ActiveMQ takes {_MOST_SELECTOR_BYTES} bytes")
                headers["selector"] = value
            case "exclusive":
                if not isinstance(value, bool):
                    raise ArgumentRefused(name, value, "it must be True or False")
                exclusive = value
            case "x-priority":
                if isinstance(value, bool) or not isinstance(value, int) or value not in PRIORITIES:
                    raise ArgumentRefused(name, value, f"it must be a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}")
                headers["activemq.priority"] = str(value)
            case _ if not str(name).startswith("x-"):
                raise ArgumentRefused(str(name), value, "only selector, exclusive and x-priority are known")
    if exclusive:
        headers["activemq.exclusive"] = "true"
    return ConsumerArguments(headers, exclusive)
