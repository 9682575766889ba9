"""What it costs here to wake: the same piece of work after a pause, when others have used the caches meanwhile, and back to back."""

import email
import json
import time
from statistics import median
from xml.dom import minidom

PAUSE_S = 1.0
BACK_TO_BACK = 20


def waking_for(seconds: float) -> float:
    """Do a piece of work once a second for so long; return how many times as long it took as it does back to back (medians of CPU time)."""
    ends_at = time.monotonic() + seconds
    after_pauses = []
    while (left_s := ends_at - time.monotonic()) > 0:
        time.sleep(min(PAUSE_S, left_s))
        after_pauses.append(_spent_s())
    return median(after_pauses) / median(_spent_s() for _ in range(BACK_TO_BACK))


def _spent_s() -> float:
    began = time.thread_time()
    # Of much code and little data, as what looks once a second whether there is something to do.
    json.loads(json.dumps({"parts": [{"name": "beat"}, {"name": "relay"}] * 20}))
    email.message_from_string("Subject: nothing\n\nto do")
    minidom.parseString("<parts><beat/><relay/></parts>").toprettyxml()
    return time.thread_time() - began
