"""Copies inboxes, and what is said to everybody, to the destinations of those who speak STOMP: in order, at least once, with an expiry."""

import json
import logging
import time
from collections.abc import Callable

from celery import Celery

from federation.broker.errors import BrokerError, RequestRefused
from federation.broker.frames import encode
from federation.delivery.wire import Wire
from federation.services import feeds, parts
from federation.services.feeds import Copy, FeedView
from federation.transaction import Transactions

logger = logging.getLogger(__name__)

ACTOR = parts.FEEDER
# One transaction of ActiveMQ, which holds it in memory until it is committed.
AT_ONCE = 50
RETRY_S, REFUSED_S = 5.0, 60.0
# Who is the first to be fed waits at most so long.
NOBODY_S = 1.0


class Feeder:
    """Feeds in the thread of who calls; of all beats only one may."""

    def __init__(self, app: Celery, transactions: Transactions) -> None:
        self._transactions = transactions
        self._wire = Wire(app)
        self._not_before = 0.0
        self._refused: dict[str, float] = {}

    def feed(self, after_each: Callable[[], None]) -> bool:
        """Copy all that is there; return whether that was all. What the broker does not take is tried by a later call, and holds up nobody else.

        `after_each` batch is called. Raises the errors of the database, and what it raises.
        """
        if time.monotonic() < self._not_before:
            return False
        all_fed = True
        with self._transactions.begin(ACTOR) as session:
            known = feeds.everybody(session)
        if not known:
            # Most federations have nobody who speaks STOMP: then it is not asked at each event.
            self._not_before = time.monotonic() + NOBODY_S
        for feed in known:
            if time.monotonic() < self._refused.get(feed.destination, 0.0):
                all_fed = False
                continue
            try:
                self._feed(feed, after_each)
            except RequestRefused as error:
                # STOMP 1.2: a server closes the connection after an ERROR. The others have nothing to do with it.
                self.close()
                all_fed = False
                self._refused[feed.destination] = time.monotonic() + REFUSED_S
                logger.warning("feeder.refused", extra={"destination": feed.destination, "reason": str(error)})
            except BrokerError as error:
                self.close()
                self._not_before = time.monotonic() + RETRY_S
                logger.warning("feeder.deferred reason=%s retry_s=%g", str(error).partition("\n")[0], RETRY_S)
                return False
        return all_fed

    def _feed(self, feed: FeedView, after_each: Callable[[], None]) -> None:
        while True:
            with self._transactions.begin(ACTOR) as session:
                copies = feeds.waiting(session, feed, limit=AT_ONCE)
            if copies:
                transaction = self._wire.connected().next_id()
                self._wire.send(transaction, [frame for copy in copies if (frame := self._small_enough(feed, copy, transaction))])
                with self._transactions.begin(ACTOR) as session:
                    feeds.advance(session, feed, copies)
            after_each()
            if len(copies) < AT_ONCE:
                return
            with self._transactions.begin(ACTOR) as session:
                feed = next((one for one in feeds.everybody(session) if one.destination == feed.destination), feed)

    def _small_enough(self, feed: FeedView, copy: Copy, transaction: str) -> bytes | None:
        """Return the frame of a copy; None, with a warning, for what is larger than ActiveMQ takes: it would end the connection without a word."""
        frame = _frame(feed, copy, transaction)
        if len(frame) <= self._wire.most_bytes:
            return frame
        reason = f"larger than {self._wire.most_bytes} bytes"
        logger.warning("feeder.left_out", extra={"destination": feed.destination, "message_id": copy.message["id"], "reason": reason})
        return None

    def close(self) -> None:
        """Part from ActiveMQ."""
        self._wire.close()


def _frame(feed: FeedView, copy: Copy, transaction: str) -> bytes:
    message = copy.message
    headers = {
        "destination": feed.destination,
        "transaction": transaction,
        "persistent": "true",
        "expires": str(int((time.time() + feed.expires_s) * 1000)),
        "content-type": "application/json",
        # Without it ActiveMQ takes a body with a length for bytes, which clients of JMS cannot read as text.
        "amq-msg-type": "text",
        # For selectors, and to know one again that comes twice.
        "federation-id": message["id"],
        "federation-type": message["type"],
        "sender": message["source"]["agent"],
        "conversation": message["conversation_id"],
    }
    return encode("SEND", headers, json.dumps(message, ensure_ascii=False).encode())
