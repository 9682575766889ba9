"""The nodes as this process knows them, read anew twice a second at most; counts what it places in between, sends nothing."""

import threading
import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from federation.placement.fitting import Unplaceable
from federation.placement.requirements import Requirements
from federation.placement.roster import Roster
from federation.services import nodes

# Counting the unfinished work of all nodes costs as much as there is of it.
FRESH_S = 0.5


class KnownNodes:
    """Shared by the threads of one process; `stale_s` is how long a node without a sign of life counts as alive."""

    def __init__(self, *, stale_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stale_s, self._clock = stale_s, clock
        self._lock = threading.Lock()
        # Whoever reads the nodes holds it.
        self.looking = threading.Lock()
        self._roster = Roster([])
        self._fresh_until = float("-inf")

    @property
    def are_old(self) -> bool:
        """Whether what is known is so old that it is read anew."""
        return self._clock() >= self._fresh_until

    def look(self, session: Session, *, afresh: bool = False) -> bool:
        """Read the nodes if what is known is old; return whether they were read now."""
        if not afresh and not self.are_old:
            return False
        roster = Roster(nodes.views(session, stale_s=self._stale_s))
        with self._lock:
            self._roster, self._fresh_until = roster, self._clock() + FRESH_S
        return True

    def place(self, requirements: Requirements, *, key: str | None = None) -> str | Unplaceable:
        """Return the name of the node for one execution, which then counts as that node's work."""
        with self._lock:
            return self._roster.place(requirements, key=key)
