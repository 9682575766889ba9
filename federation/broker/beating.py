"""Heart-beats from a thread, for a connection whose own loop stands still while a task runs; reads only to see that the broker is there."""

import threading

from federation.broker.connection import StompConnection
from federation.broker.errors import ConnectionLost

# In an interval, so that one that comes a little early is not a whole turn late.
LOOKS = 4


def beat_beside(wire: StompConnection) -> None:
    """Let a thread send the heart-beats from now on, beside whoever else does, until the connection ends."""
    if wire.beat_s and not wire.beaten_beside:
        wire.beaten_beside = True
        threading.Thread(target=_beat, args=(wire,), name="broker-heartbeats", daemon=True).start()


def _beat(wire: StompConnection) -> None:
    while wire.alive and not wire.ended.wait(wire.beat_s / LOOKS):
        try:
            wire.beat()
        except ConnectionLost:
            # Whoever uses the connection next hears of it.
            return
