"""How long the broker's scheduler shall keep a message: until the ETA that Celery wrote into its header; pure but for the clock."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

DELAY = "AMQ_SCHEDULED_DELAY"
JOB_ID = "scheduledJobId"
# ActiveMQ looks at its schedule twice a second, so a message comes up to that late. Asked for so much earlier it comes
# in time, and Celery keeps the rest to the millisecond.
LEAD_MS = 500


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
