"""Tells the topics of ActiveMQ what happened: numbers committed events once, in one order, and publishes them at least once, in that order.

Whoever does so feeds inboxes to queues too: one of all beats, woken by the same notices.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence

import psycopg
from celery import Celery
from sqlalchemy.exc import DBAPIError

from federation.broker.errors import BrokerError
from federation.broker.frames import encode
from federation.delivery.feeder import Feeder
from federation.delivery.hanging import GIVE_WAY
from federation.delivery.wire import Wire
from federation.errors import TransientError
from federation.results.notices import wait_for_notices
from federation.results.patience import completed
from federation.services import parts
from federation.store import event_order
from federation.store.event_order import Horizon, Line
from federation.transaction import NOTICE_CHANNEL, Transactions

logger = logging.getLogger(__name__)

ACTOR = parts.RELAY
TOPIC = "/topic/federation.events."
# The advisory lock of the relay that acts: the bytes of «rely».
LOCK = 0x72656C79
NUMBERED_AT_ONCE = 2_000
# One transaction of ActiveMQ, which holds it in memory until it is committed.
TOLD_AT_ONCE, MOST_BYTES = 500, 4_000_000
# What is read at once fits into this process, also where it was packed well.
MOST_BYTES_READ = 1_000_000
# Not every transaction wakes somebody; what happened without a notice is told after this time.
LOOK_S = 1.0
# A round takes nearly as long for one event as for many: so it rests as long as the last one took, and tells together what happens meanwhile.
LONGEST_REST_S = 0.1
STANDBY_S = 2.0
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 15.0


class Relay:
    """A thread of beat's process; of several only the one that holds the lock acts, on a connection that dies with it."""

    def __init__(self, app: Celery, transactions: Transactions, *, listen_url: str) -> None:
        self._app, self._transactions, self._listen_url = app, transactions, listen_url
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-relay", daemon=True)
        self._topics = _Topics(app)
        self._feeder = Feeder(app, transactions)
        self._awaited: Horizon | None = None
        self._behind, self._fed = True, False

    def start(self) -> None:
        """Begin to relay; called again it changes nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """End within about a second; what is not told is told by the next relay."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_S + STANDBY_S)

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while not self._stopped.is_set():
            try:
                with psycopg.connect(**completed(self._listen_url), autocommit=True) as line:
                    while not self._leads(line):
                        if self._stopped.wait(STANDBY_S):
                            return
                    while not self._stopped.is_set():
                        self._relay(line)
                        retry_s = FIRST_RETRY_S
            except (psycopg.Error, DBAPIError, TransientError, BrokerError, OSError) as error:
                logger.warning("relay.deferred reason=%s retry_s=%g", str(error).partition("\n")[0], retry_s)
                self._stopped.wait(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            except Exception:  # the thread must live; what is recorded is told later
                logger.exception("relay.failed retry_s=%g", retry_s)
                self._stopped.wait(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            finally:
                self._topics.close()
                self._feeder.close()

    def _leads(self, line: psycopg.Connection) -> bool:
        [held] = line.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() or [False]
        if held:
            # Before the first look, so that nothing falls between the two.
            line.execute(f"LISTEN {NOTICE_CHANNEL}")
            line.execute(GIVE_WAY)
            # Whoever led before may have left either half-way.
            self._behind, self._fed = True, False
            logger.info("relay.leads")
        return bool(held)

    def _relay(self, line: psycopg.Connection) -> None:
        """Do what there is to do, then wait for a notice."""
        # All of it first: a broker that is away holds up the topics, and the order only for as long as it takes to notice.
        began, worked = time.monotonic(), False
        while event_order.is_unsettled(line) and not self._stopped.is_set():
            # Whatever is fed is an event too.
            self._fed, worked = False, True
            numbered = self._number()
            self._behind = self._behind or numbered > 0
            if numbered < NUMBERED_AT_ONCE:
                break
        while self._behind and not self._stopped.is_set():
            self._behind = self._publish(line)
        if not self._fed:
            self._fed = self._feeder.feed(lambda: _still_leads(line))
        if worked:
            self._stopped.wait(min(time.monotonic() - began, LONGEST_REST_S))
        wait_for_notices(line, LOOK_S)

    def _number(self) -> int:
        self._awaited, numbered = number(self._transactions, self._awaited)
        return numbered

    def _publish(self, line: psycopg.Connection) -> bool:
        """Tell the topics of one batch; return whether there may be more. A crash before the commit has them told once more.

        Over the connection that holds the lock: where that is lost, so is the right to go on. Raises psycopg.Error.
        """
        batch, numbers, more = event_order.unpublished(line, limit=TOLD_AT_ONCE, most_bytes=MOST_BYTES_READ)
        for piece in _pieces(batch):
            self._topics.tell(piece)
            # Each by itself: where ActiveMQ refuses the next one for long, this one is not told once more at each try.
            event_order.mark_published(line, numbers[-1] if piece[-1] is batch[-1] else piece[-1].number)
        if numbers and not batch:
            event_order.mark_published(line, numbers[-1])
        return more


def _still_leads(line: psycopg.Connection) -> None:
    """Keep the lock through long work. Raises psycopg.Error where it is lost."""
    line.execute("SELECT")


def number(transactions: Transactions, awaited: Horizon | None) -> tuple[Horizon | None, int]:
    """Give numbers to one batch of committed events; return what is awaited before less need be looked through, and how many they were."""
    with transactions.begin(ACTOR) as session:
        # Before the numbering, which sees at least as much, and before anything is written.
        look = event_order.look(session)
        awaited = awaited or look.horizon
        numbered, highest = event_order.give_numbers(session, settled=look.settled, limit=NUMBERED_AT_ONCE)
        if awaited is not None and look.oldest >= awaited.transaction:
            reached = awaited.sequence if numbered < NUMBERED_AT_ONCE else min(awaited.sequence, highest)
            if reached > look.settled:
                event_order.settle(session, reached)
            if reached == awaited.sequence:
                awaited = None
    return awaited, numbered


def _pieces(batch: Sequence[Line]) -> Iterator[list[Line]]:
    """Cut a batch where its bytes would be too many for one transaction."""
    piece: list[Line] = []
    size = 0
    for line in batch:
        if piece and size + len(line.text) > MOST_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line.text)
    if piece:
        yield piece


class _Topics:
    """What tells the topics; each batch is one transaction with a receipt."""

    def __init__(self, app: Celery) -> None:
        self._wire = Wire(app)

    def tell(self, batch: Sequence[Line]) -> None:
        """Publish these in order, all or none; an event that is larger than ActiveMQ takes is left out with a warning.

        Raises BrokerError where ActiveMQ refuses them, because it is full, say, or the user may not: nothing says that it will not take them later.
        """
        transaction = self._wire.connected().next_id()
        frames = []
        for line in batch:
            frame = encode("SEND", _headers(line, transaction), line.text.encode())
            # For a frame that is larger than it allows, ActiveMQ ends the connection without a word.
            if len(frame) > self._wire.most_bytes:
                reason = f"larger than {self._wire.most_bytes} bytes"
                logger.warning("relay.refused", extra={"number": line.number, "event": line.type, "reason": reason})
            else:
                frames.append(frame)
        self._wire.send(transaction, frames)

    def close(self) -> None:
        """Part from ActiveMQ."""
        self._wire.close()


def _headers(line: Line, transaction: str) -> dict[str, str]:
    return {
        "destination": TOPIC + line.type,
        "transaction": transaction,
        "persistent": "true",
        "content-type": "application/json",
        # Without it ActiveMQ takes a body with a length for bytes, which clients of JMS cannot read as text.
        "amq-msg-type": "text",
        "event": line.type,
        "number": str(line.number),
    }
