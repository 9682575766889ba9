"""How fast one agent may speak over all of its connections: who is faster is made to wait, and told nothing."""

import asyncio
import time

# A little more than an agent may have sent (FEDERATION_MESSAGES_PER_MINUTE), which is refused with words, so that beat has no more to refuse.
SENDS_A_SECOND, FRAMES_A_SECOND, BYTES_A_SECOND = 30, 300, 1024 * 1024
AT_ONCE_S = 4.0


class Pace:
    """Lets through what a second has, some seconds' worth at once."""

    def __init__(self) -> None:
        self._free_at = 0.0

    @property
    def rested(self) -> bool:
        """Whether all that may come at once may come."""
        return self._free_at <= time.monotonic() - AT_ONCE_S

    async def frame(self, command: str) -> None:
        """Wait until there is room for a frame that has been read."""
        await self._spend(1 / (SENDS_A_SECOND if command == "SEND" else FRAMES_A_SECOND))

    async def bytes(self, count: int) -> None:
        """Wait until there is room for what has been read."""
        await self._spend(count / BYTES_A_SECOND)

    async def _spend(self, cost_s: float) -> None:
        now = time.monotonic()
        self._free_at = max(self._free_at, now - AT_ONCE_S) + cost_s
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
