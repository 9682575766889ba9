"""A circuit breaker: after a failure, callers do not each wait for the same dead server; knows no server."""

import threading
import time
from collections.abc import Callable


class Breaker:
    """Open for `first_s` seconds after a failure, then for twice as long each, up to `longest_s`."""

    def __init__(self, *, first_s: float = 1.0, longest_s: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._first_s, self._longest_s, self._clock = first_s, longest_s, clock
        self._lock = threading.Lock()
        self._delay_s = first_s
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a try would be in vain."""
        return self._clock() < self._open_until

    @property
    def is_closed(self) -> bool:
        """Whether nothing speaks against a try: no failure since the last success."""
        return self._open_until == 0.0

    def failed(self) -> None:
        """Open it."""
        with self._lock:
            if self.is_open:
                return
            self._open_until = self._clock() + self._delay_s
            self._delay_s = min(self._delay_s * 2, self._longest_s)

    def succeeded(self) -> None:
        """Close it."""
        with self._lock:
            self._open_until = 0.0
            self._delay_s = self._first_s
