"""The nodes as this process knows them, read anew twice a second at most; counts what it places in between, sends nothing."""

import threading
import time
from collections.abc import Callable, Iterable

from sqlalchemy.orm import Session

from federation.placement.fitting import Unplaceable
from federation.placement.requirements import Requirements
from federation.placement.roster import Roster
from federation.services import nodes

# Counting the unfinished work of all nodes costs as much as there is of it.
FRESH_S = 0.5
# Who is the only one to fit is chosen whatever it has to do: it is read anew for a node that may have come beside it. Whether it lives still is asked
# with the sending.
LASTS_S = 5.0


class KnownNodes:
    """Shared by the threads of one process; `stale_s` is how long a node without a sign of life counts as alive."""

    def __init__(self, *, stale_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stale_s, self._clock = stale_s, clock
        self._lock = threading.Lock()
        # Whoever reads the nodes holds it.
        self.looking = threading.Lock()
        self._roster = Roster([])
        self._read_at = float("-inf")

    def are_old(self, wanted: Iterable[Requirements]) -> bool:
        """Return whether what is known is so old that it is read anew before nodes are chosen for these."""
        with self._lock:
            age_s = self._clock() - self._read_at
            return age_s >= LASTS_S or (age_s >= FRESH_S and any(self._roster.has_choice(each) for each in wanted))

    def look(self, session: Session) -> None:
        """Read the nodes anew."""
        roster = Roster(nodes.views(session, stale_s=self._stale_s))
        with self._lock:
            self._roster, self._read_at = roster, self._clock()

    def place(self, requirements: Requirements, *, key: str | None = None) -> str | Unplaceable:
        """Return the name of the node for one execution, which then counts as that node's work."""
        with self._lock:
            return self._roster.place(requirements, key=key)
