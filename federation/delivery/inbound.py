"""Takes what agents say over STOMP to the same services as the front door, in their own names and with their own rights.

Who speaks is known from the queue, which the STOMP door lets that agent alone write to. What the message says of it is compared, never believed.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from federation.broker.connection import StompConnection
from federation.broker.errors import BrokerError, RequestRefused
from federation.broker.frames import Frame, encode
from federation.delivery.spoken import Spoken, id_of, read
from federation.delivery.wire import CONFIRM_S, Wire
from federation.errors import InvalidInput, NotFound, PermanentError, RateLimited, TransientError
from federation.services import actions, cop, feeds, inboxes, sessions
from federation.store.fixed_ids import fixed_id
from federation.transaction import Transactions

logger = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
# Who may speak is looked up this often, and less often where nobody may; a new one waits no longer, and who may no more is heard no longer.
LOOK_S, NOBODY_S = 1.0, 5.0
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 15.0
REFUSED_S = 60.0
PREFETCH = "20"


class Inbound:
    """A thread of beat's process; of several beats the broker gives each queue to one."""

    def __init__(self, app: Celery, transactions: Callable[[], Transactions]) -> None:
        """`transactions` must run agents' as the role that sees what they may see; they are made in the thread."""
        self._make = transactions
        self._wire = Wire(app, heartbeat_s=HEARTBEAT_S)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inbound", daemon=True)
        self._line: StompConnection | None = None
        self._heard: dict[str, float] = {}
        self._refused: dict[str, float] = {}

    def start(self) -> None:
        """Begin to listen; called again it changes nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """End within about a second; what is not settled is heard by the next."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_S + 2)

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        transactions = None
        while not self._stopped.is_set():
            try:
                transactions = transactions or self._make()
                # Kept, and without transactions, because it is asked each second.
                with transactions.service.connect().execution_options(isolation_level="AUTOCOMMIT") as line:
                    while not self._stopped.is_set():
                        self._listen(transactions, line)
                        retry_s = FIRST_RETRY_S
            except (DBAPIError, TransientError, BrokerError, OSError) as error:
                logger.warning("inbound.deferred reason=%s retry_s=%g", str(error).partition("\n")[0], retry_s)
                self._forget()
                self._stopped.wait(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            except Exception:  # the thread must live; what was not settled comes again
                logger.exception("inbound.failed retry_s=%g", retry_s)
                self._forget()
                self._stopped.wait(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
        self._forget()

    def _forget(self) -> None:
        self._heard.clear()
        self._wire.close()

    def _listen(self, transactions: Transactions, line: Connection) -> None:
        """Hear who may speak for a while."""
        known = feeds.speakers(line)
        speakers = {agent: expires_s for agent, expires_s in known.items() if time.monotonic() >= self._refused.get(agent, 0.0)}
        if not speakers and not self._heard:
            # Nobody speaks STOMP here: no connection is kept for it.
            self._wire.close()
            self._stopped.wait(NOBODY_S)
            return
        wire = self._wire.connected()
        if wire is not self._line:
            # Another connection has no subscriptions yet.
            self._line = wire
            self._heard.clear()
        self._attend(wire, speakers)
        if not wire.inbox:
            wire.read(LOOK_S)
        wire.beat()
        while wire.inbox and not self._stopped.is_set():
            frame = wire.inbox.popleft()
            # The subscription is ours to name, and no header of the sender's.
            self._take(transactions, frame.headers["subscription"], frame)

    def _attend(self, wire: StompConnection, speakers: Mapping[str, float]) -> None:
        for agent in sorted(speakers.keys() - self._heard.keys()):
            headers = {"id": agent, "destination": feeds.FROM + agent, "ack": "client-individual", "activemq.prefetchSize": PREFETCH}
            receipt = wire.next_id()
            # One at a time, so that what an agent says keeps its order with several beats.
            try:
                wire.request(encode("SUBSCRIBE", {**headers, "activemq.exclusive": "true", "receipt": receipt}), receipt, CONFIRM_S)
            except RequestRefused:
                # The others must not wait until ActiveMQ lets this one be heard.
                self._refused[agent] = time.monotonic() + REFUSED_S
                raise
        for agent in sorted(self._heard.keys() - speakers.keys()):
            wire.send(encode("UNSUBSCRIBE", {"id": agent}))
        self._heard = dict(speakers)

    def _take(self, transactions: Transactions, agent: str, frame: Frame) -> None:
        """Do what one message says, tell its sender what came of it if it is to be told, and settle it."""
        if agent not in self._heard:
            return
        told: dict[str, Any] | None = None
        try:
            spoken = read(frame, agent)
            done = self._do(transactions, agent, spoken, frame)
            if spoken.confirm:
                told = {"type": "done", **done}
        except (RateLimited, PermanentError) as error:
            logger.info("inbound.refused", extra={"agent": agent, "reason": str(error)})
            told = {"type": "refused", "error": str(error)}
        except TransientError:
            # It is delivered again when this can be done.
            raise
        except Exception:  # one message that we cannot take must not stop all others
            logger.exception("inbound.not_taken", extra={"agent": agent})
            told = {"type": "refused", "error": "it could not be taken, for a reason that beat's log tells the operator"}
        self._settle(agent, frame, told and {**told, "id": id_of(frame)})

    def _do(self, transactions: Transactions, agent: str, spoken: Spoken, frame: Frame) -> Mapping[str, Any]:
        # Delivered again after a crash, it is the same message, and the same call.
        slug = spoken.id or f"stomp:{fixed_id('stomp', frame.headers.get('message-id', ''))}"

        def work(session: Session) -> Mapping[str, Any]:
            if spoken.cursor is not None:
                inboxes.read_up_to(session, spoken.cursor)
                return {"cursor": spoken.cursor}
            if spoken.state is not None:
                return {"updated_at": cop.update_state(session, **spoken.state).isoformat()}
            out_of = None if spoken.session is None else _session(session, spoken.session, spoken.address["conversation_id"])
            sent = actions.send(session, spoken.content, slug=slug, **spoken.address, message_type=spoken.type, body=spoken.body, session_id=out_of)
            return {
                "message_id": str(sent.message_id),
                "conversation_id": sent.conversation_id,
                "position": sent.position,
                "recipients": list(sent.recipients),
                "waiting_for": sent.waiting_for,
            }

        with transactions.begin(agent, voice=spoken.signed) as session:
            return work(session)

    def _settle(self, agent: str, frame: Frame, told: Mapping[str, Any] | None) -> None:
        transaction = self._wire.connected().next_id()
        frames = [encode("ACK", {"id": frame.headers["ack"], "transaction": transaction})]
        if told is not None:
            headers = {
                "destination": feeds.queue_of(agent),
                "transaction": transaction,
                "persistent": "true",
                "content-type": "application/json",
                "amq-msg-type": "text",
                "federation-type": str(told["type"]),
                "expires": str(int((time.time() + self._heard[agent]) * 1000)),
            }
            frames.append(encode("SEND", headers, json.dumps(told, ensure_ascii=False).encode()))
        self._wire.send(transaction, frames)


def _session(session: Session, reference: str, conversation_id: str | None) -> uuid.UUID:
    try:
        return sessions.find(session, reference, conversation_id=conversation_id).id
    except NotFound as error:
        wants = f"a session of a conversation of yours, by its id or name, or nothing ({error})"
        raise InvalidInput("source.session", reference[:100], wants) from error
