"""What it costs here to wake: the same piece of work after a pause, when others have used the caches meanwhile, and back to back."""

import email
import json
import time
from dataclasses import dataclass
from statistics import median
from xml.dom import minidom

PAUSE_S = 1.0
BACK_TO_BACK = 20


@dataclass(frozen=True)
class Waking:
    """Medians of the processor time that a piece of work took."""

    after_pause_ms: float
    back_to_back_ms: float

    def __str__(self) -> str:
        return (
            f"Something that takes {self.back_to_back_ms:.2f} ms back to back took {self.after_pause_ms:.2f} ms after a pause of a second, "
            f"which alone is {self.after_pause_ms / 10 / PAUSE_S:.2f} % of a core."
        )


def waking_for(seconds: float) -> Waking:
    """Do a piece of work once a second for so long, and then back to back."""
    ends_at = time.monotonic() + seconds
    after_pauses = []
    while (left_s := ends_at - time.monotonic()) > 0:
        time.sleep(min(PAUSE_S, left_s))
        after_pauses.append(_spent_s())
    return Waking(median(after_pauses) * 1000, median(_spent_s() for _ in range(BACK_TO_BACK)) * 1000)


def _spent_s() -> float:
    began = time.thread_time()
    # Of much code and little data, as what looks once a second whether there is something to do.
    json.loads(json.dumps({"parts": [{"name": "beat"}, {"name": "relay"}] * 20}))
    email.message_from_string("Subject: nothing\n\nto do")
    minidom.parseString("<parts><beat/><relay/></parts>").toprettyxml()
    return time.thread_time() - began
