"""How long the broker's scheduler shall keep a message: until the ETA that Celery wrote into its header; pure but for the clock."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

DELAY = "AMQ_SCHEDULED_DELAY"
JOB_ID = "scheduledJobId"
REPEATS = ("AMQ_SCHEDULED_CRON", "AMQ_SCHEDULED_PERIOD", "AMQ_SCHEDULED_REPEAT")
# ActiveMQ looks at its schedule twice a second, so a message comes up to that late. Asked for so much earlier it comes
# in time, and Celery keeps the rest to the millisecond.
LEAD_MS = 500
GUARD_MS = 60_000
GUARD_MS_OF_UNKNOWN = 1_000


def read_eta(headers: Mapping[str, Any]) -> datetime | None:
    """Return the aware time of Celery's `eta` header, None if there is none or nobody can read it."""
    given = headers.get("eta")
    if not isinstance(given, str):
        return None
    try:
        eta = datetime.fromisoformat(given)
    except ValueError:
        # Celery's worker refuses it with a reason; that is not for the transport to do.
        return None
    # Celery's worker takes a naive one for UTC, whatever the timezone of its app.
    return eta if eta.tzinfo is not None else eta.replace(tzinfo=UTC)


def delay_ms(headers: Mapping[str, Any]) -> int:
    """Return the milliseconds for the scheduler, 0 for a message that shall come at once."""
    eta = read_eta(headers)
    if eta is None:
        return 0
    return max(0, round(eta.timestamp() * 1000) - int(time.time() * 1000) - LEAD_MS)


def guard_ms(stomp_headers: Mapping[str, str]) -> int:
    """Return the delay of a message that shall be due before this scheduled one, yet not at once; 0 if there is no such time.

    Half of what is left, `GUARD_MS` at most. What another client scheduled, by cron or more than once, does not tell when it is due.
    """
    if DELAY not in stomp_headers or any(name in stomp_headers for name in REPEATS):
        return GUARD_MS_OF_UNKNOWN
    left_ms = int(stomp_headers["timestamp"]) + int(stomp_headers[DELAY]) - int(time.time() * 1000)
    return max(0, min(GUARD_MS, left_ms // 2))
