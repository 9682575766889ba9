"""A node's announcement, its signs of life and its leaving, told from the worker's main process; SQL runs on a thread of its own."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery.worker import state as worker_state

from federation.delivery import overtime
from federation.delivery.pause import database_away
from federation.delivery.publisher import CeleryPublisher
from federation.errors import TransientError
from federation.services import nodes
from federation.transaction import Transactions

logger = logging.getLogger(__name__)

LEAVE_WITHIN_S = 5.0
LOOK_S = 0.5


class NodeLife:
    """Ticked by the worker's event loop, so that a worker whose loop hangs turns stale and one with a long task does not."""

    def __init__(
        self,
        announcement: nodes.Announcement,
        transactions: Transactions,
        *,
        publisher: CeleryPublisher,
        register: Callable[[], None],
        stale_s: float,
    ) -> None:
        self._register = register
        self._node, self._transactions, self._publisher, self._stale_s = announcement, transactions, publisher, stale_s
        self._tick = threading.Event()
        self._leaving = False
        self._announced = False
        self._rival = False
        self._silent = False
        self._hangs = False
        self._thread = threading.Thread(target=self._run, name="node-life", daemon=True)

    def start(self) -> None:
        """Announce the node, and begin to follow ticks."""
        self._thread.start()
        self.tick()

    def tick(self) -> None:
        """Give a sign of life soon; returns at once."""
        self._tick.set()

    def leave(self) -> None:
        """Say soon that the node gets no more work; takes no lock, because a signal handler calls it."""
        self._leaving = True

    def join(self) -> None:
        """Wait until the leaving is recorded, a few seconds at most."""
        if self._thread.is_alive():
            self._tick.set()
            self._thread.join(LEAVE_WITHIN_S)

    def _run(self) -> None:
        while not self._leaving:
            if not self._tick.wait(LOOK_S) or self._leaving:
                continue
            self._tick.clear()
            try:
                self._live()
                self._silent = False
            except TransientError as error:
                if not self._silent:
                    logger.warning("node.silent reason=%s", _with_cause(error), extra={"node": self._node.name})
                self._silent = True
                database_away.send(sender=self)
            except Exception:  # without this thread the node would look dead while its worker goes on
                logger.exception("node.beat_failed", extra={"node": self._node.name})
        try:
            with self._begin() as session:
                nodes.leave(session, self._node.name, self._node.incarnation)
        except TransientError as error:
            logger.warning("node.left_unrecorded reason=%s", _with_cause(error), extra={"node": self._node.name})
        except Exception:  # the worker stops; its node turns stale instead
            logger.exception("node.left_unrecorded", extra={"node": self._node.name})

    def _live(self) -> None:
        if not self._announced:
            self._announce(stale_s=None)
            return
        if overtime.hung() >= self._node.concurrency:
            # Whoever cannot take anything is as good as dead: what waits for it goes to others, until a place is free.
            self._hang()
            return
        self._hangs = False
        with self._begin() as session:
            known = nodes.sign_of_life(session, self._node.name, self._node.incarnation, load=_load())
        if not known:
            # Another worker took the name over, or the row is gone.
            self._announce(stale_s=self._stale_s)

    def _hang(self) -> None:
        if not self._hangs:
            logger.error(
                "node.hangs: all its places are taken by what is over its time; end the worker if that does not end", extra={"node": self._node.name}
            )
        self._hangs = True

    def _announce(self, *, stale_s: float | None) -> None:
        # Whose key is not known, or was revoked, gets no work: what it sent on its behalf would not be run.
        self._register()
        with self._begin() as session:
            rival = nodes.rival(session, self._node, stale_s=self._stale_s)
            accepted = nodes.announce(session, self._node, stale_s=stale_s)
        if accepted:
            if rival is not None and not self._has_ended(*rival):
                hostname, pid = rival
                logger.warning("node.takes_over: process %d on %s is %s too; if it still runs, stop one of the two", pid, hostname, self._node.name)
            self._announced = True
            self._rival = False
            logger.info("node.announced", extra={"node": self._node.name, "missing": ", ".join(self._node.missing) or "nothing"})
            # What waited for such a node goes out now, and not with beat's next sweep; a slow broker must not stop the signs of life.
            threading.Thread(target=self._publisher.sweep, name="node-sweep", daemon=True).start()
        elif not self._rival:
            self._rival = True
            logger.error("node.taken_over: another worker announces %s; stop one of the two", self._node.name)

    def _has_ended(self, hostname: str, pid: int) -> bool:
        # Of another machine nothing can be known.
        return hostname == self._node.hostname and not Path(f"/proc/{pid}").exists()

    def _begin(self) -> Any:
        return self._transactions.begin(f"node:{self._node.name}")


def _with_cause(error: TransientError) -> str:
    # What PostgreSQL's client says, such as that it does not trust the certificate, is for who runs the node, and not for agents.
    cause = error.__cause__
    said = str(getattr(cause, "orig", cause) or "").partition("\n")[0]
    return f"{error} ({said})" if said else str(error)


def _load() -> dict[str, int]:
    running = len(worker_state.active_requests)
    return {"running": running, "reserved": max(len(worker_state.reserved_requests) - running, 0)}
