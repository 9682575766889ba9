"""A thread of beat's process that ends what nodes' logins have open: after their day, and where others wait for it; ends nobody else's.

Not one of beat's jobs, because these wait for one another: what a node holds, such as a stream of the log, would keep all of them waiting, this too.
"""

import logging
import threading

from sqlalchemy.exc import DBAPIError

from federation.delivery import leadership, relay
from federation.errors import TransientError
from federation.services import node_logins, parts
from federation.transaction import Transactions

logger = logging.getLogger(__name__)

LOOK_S = 5.0
# No transaction of a worker's lasts nearly so long while others wait for what it has locked.
HINDERS_S = 15.0
# By these one part acts for all; no node is one of them.
LOCKS = (leadership.LOCK, relay.LOCK)


class Bailiff:
    """Looks again and again, in each beat, whichever acts: that none does may be a node's doing."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bailiff", daemon=True)

    def start(self) -> None:
        """Begin to look; called again it changes nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            try:
                self._look()
            except (TransientError, DBAPIError) as error:
                logger.warning("bailiff.deferred reason=%s", str(error).partition("\n")[0])
            except Exception:  # the thread must live, or nobody would end anything
                logger.exception("bailiff.failed")

    def _look(self) -> None:
        with self._transactions.begin(parts.BEAT) as session:
            expired = node_logins.end_expired(session)
            hindering = node_logins.end_hindering(session, after_s=HINDERS_S, locks=LOCKS)
        for node, sessions in expired.items():
            logger.warning("node.login_expired", extra={"node": node, "sessions": sessions})
        for node, is_ended in hindering.items():
            # Whoever is stopped so again and again does it on purpose: federation node remove.
            logger.warning("node.hinders", extra={"node": node, "ended": is_ended})
