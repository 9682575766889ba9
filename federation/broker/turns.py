"""Message groups within one consumer: of each group one unsettled delivery at a time, in the order of arrival; sends nothing."""

from collections import deque
from dataclasses import dataclass, field

from federation.broker.frames import Frame
from federation.broker.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Held:
    """A frame that waits for its turn, or was called and is on its way."""

    subscription: Subscription
    frame: Frame


@dataclass(eq=False, slots=True)
class Turns:
    """Who has the turn in each group, and who waits; its owner locks.

    The broker gives a group to one subscription, and it fetches ahead: without this, a pool would run several of a group at once.
    """

    _waiting: dict[str, deque[Held]] = field(default_factory=dict)
    _called: dict[int, Held] = field(default_factory=dict)

    def was_called(self, frame: Frame) -> bool:
        """Whether this very frame had to wait and is called now; it is asked once."""
        return self._called.pop(id(frame), None) is not None

    def take(self, group: str, subscription: Subscription, frame: Frame) -> bool:
        """Take the turn if it is free; otherwise the frame is held."""
        waiting = self._waiting.get(group)
        if waiting is None:
            self._waiting[group] = deque()
            return True
        waiting.append(Held(subscription, frame))
        return False

    def call_next(self, group: str) -> Frame | None:
        """End the turn; return the frame whose turn it is now, to be received once more, or None."""
        waiting = self._waiting.get(group)
        if waiting is None:
            return None
        if not waiting:
            del self._waiting[group]
            return None
        held = waiting.popleft()
        self._called[id(held.frame)] = held
        return held.frame

    def drop_all(self) -> list[Held]:
        """Forget everything; return the frames that nobody got."""
        held = [*self._called.values(), *(one for waiting in self._waiting.values() for one in waiting)]
        self._waiting.clear()
        self._called.clear()
        return held
