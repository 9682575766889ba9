"""Takes from the queues of nodes what one that was shut out, or nobody, has signed; executions that were among it are placed anew."""

import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from celery import Celery
from kombu.exceptions import KombuError
from pydantic import ValidationError

from federation.broker.destinations import queue_name
from federation.broker.errors import BrokerError
from federation.broker.moving import WaitingMessage, waiting_messages
from federation.broker.opening import own_transport
from federation.delivery.app import QUEUE_PREFIX
from federation.delivery.envelope import SIGNATURE, Signature
from federation.delivery.gate import signature_flaw
from federation.delivery.known_signers import KnownSigners
from federation.errors import BrokerUnavailable
from federation.services import nodes
from federation.store import outbox
from federation.transaction import Transactions

# In one transaction of the broker.
MOST_DROPPED, MOST_BYTES_DROPPED = 100, 8_000_000


@dataclass(slots=True)
class Purged:
    """How many messages were dropped and how many executions placed anew; `is_all` False where the time was over before all was looked at."""

    dropped: int = 0
    placed_anew: int = 0
    is_all: bool = True


class Purge:
    """Looks through all queues of nodes once; what comes meanwhile is put aside by the nodes as ever."""

    def __init__(
        self, app: Celery, transactions: Transactions, *, actor: str, shut_out: Collection[str], required: bool, tell: Callable[[int], None]
    ) -> None:
        """`shut_out` are keys that were revoked; `required`: what is not signed is not run. `tell` hears how many are dropped so far."""
        self._app, self._transactions, self._actor = app, transactions, actor
        self._shut_out, self._required, self._tell = shut_out, required, tell
        self._signers = KnownSigners()
        self._done = Purged()

    def run(self, *, within_s: float) -> Purged:
        """Drop what may not be run, for so long at most. Raises BrokerUnavailable, DatabaseUnavailable."""
        until = time.monotonic() + within_s
        try:
            for queue, waiting in self._queues():
                self._purge(queue, waiting, until)
        except (BrokerError, OSError, KombuError) as error:
            raise BrokerUnavailable(f"ActiveMQ does not let its queues be looked through ({error})") from error
        return self._done

    def _queues(self) -> list[tuple[str, int]]:
        with self._app.connection_for_write() as connection, own_transport(connection) as transport:
            sizes = transport.statistics().sizes()
        own = {name: size.waiting + size.in_flight for name, size in sizes.items() if name.startswith(f"/queue/{QUEUE_PREFIX}")}
        return [(queue_name(name, QUEUE_PREFIX), waiting) for name, waiting in sorted(own.items()) if waiting]

    def _purge(self, queue: str, waiting: int, until: float) -> None:
        with self._app.connection_for_write() as connection, waiting_messages(connection, queue, limit=waiting) as found:
            for batch in _batches(message for message in self._looked_at(found, until) if self._may_go(message)):
                self._place_anew(queue, batch)
                batch[0].drop(*batch[1:])
                self._done.dropped += len(batch)
                self._tell(self._done.dropped)

    def _looked_at(self, found: Iterator[WaitingMessage], until: float) -> Iterator[WaitingMessage]:
        for message in found:
            if time.monotonic() > until:
                self._done.is_all = False
                return
            yield message

    def _may_go(self, waiting: WaitingMessage) -> bool:
        header = waiting.headers.get(SIGNATURE)
        if header is None:
            return self._required
        try:
            signature = Signature.model_validate(header)
        except ValidationError:
            return True
        known = self._signers.get(signature.signer)
        if known is None:
            with self._transactions.begin(self._actor) as session:
                known = self._signers.read(session, signature.signer)
        # What another revoked key has signed is put aside, and can be sent again.
        unsigned = signature_flaw(waiting.message, signature, replace(known, revoked_at=None)) is not None
        return unsigned or signature.signer in self._shut_out

    def _place_anew(self, queue: str, batch: list[WaitingMessage]) -> None:
        """Have sent again, as it was recorded and by a key that is valid, what the one that was shut out had sent of ours."""
        named = {identity for each in batch if (identity := self._named(each)) is not None}
        if named:
            with self._transactions.begin(self._actor) as session:
                found = nodes.sent_among(session, queue, named)
                for execution in found:
                    outbox.take_back(session, execution, "the node that had sent it was shut out")
            self._done.placed_anew += len(found)

    def _named(self, waiting: WaitingMessage) -> uuid.UUID | None:
        header = waiting.headers.get(SIGNATURE)
        if not isinstance(header, dict) or header.get("signer") not in self._shut_out:
            return None
        try:
            return uuid.UUID(str(waiting.headers.get("id")))
        except ValueError:
            return None


def _batches(messages: Iterator[WaitingMessage]) -> Iterator[list[WaitingMessage]]:
    batch: list[WaitingMessage] = []
    for message in messages:
        batch.append(message)
        if len(batch) >= MOST_DROPPED or sum(each.size for each in batch) >= MOST_BYTES_DROPPED:
            yield batch
            batch = []
    if batch:
        yield batch
