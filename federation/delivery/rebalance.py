"""Takes work from nodes that are gone, and from those that drown beside idle ones, to nodes that can do it; loses none."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from celery import Celery
from kombu.exceptions import KombuError
from pydantic import ValidationError
from sqlalchemy import func, update

from federation.broker.errors import BrokerError
from federation.broker.moving import WaitingMessage, waiting_messages
from federation.delivery.known_nodes import KnownNodes
from federation.errors import BrokerUnavailable
from federation.placement.fitting import Unplaceable
from federation.placement.node import NodeView
from federation.placement.requirements import Requirements
from federation.services import nodes, parts
from federation.store import event_log, outbox
from federation.store.context import attach, context
from federation.store.models.executions import Execution
from federation.transaction import Transactions

logger = logging.getLogger(__name__)

ACTOR = parts.REBALANCER
# Beat waits for it, so the rest has its turn later.
LONGEST_TURN_S = 3.0
MOST_LOOKED_AT = 5_000


class Rebalancer:
    """Moves messages one by one; two of them at once share what there is, because a message has one consumer."""

    def __init__(self, app: Celery, transactions: Transactions, *, stale_s: float) -> None:
        self._app, self._transactions = app, transactions
        self._nodes = KnownNodes(stale_s=stale_s)

    def rebalance(self, known: Sequence[NodeView]) -> int:
        """Look at these nodes, as they are now, and move what need not wait where it waits; return how many were moved.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        until = time.monotonic() + LONGEST_TURN_S
        free = {node.name: node.concurrency - node.outstanding for node in known if node.alive}
        moved = 0
        for node in known:
            most = MOST_LOOKED_AT if not node.alive else _surplus(node, free)
            if most and time.monotonic() < until:
                try:
                    moved += self._relieve(node, most, until, free)
                except (BrokerError, OSError, KombuError) as error:
                    raise BrokerUnavailable("ActiveMQ does not answer; what waits on nodes that are gone is moved later") from error
        return moved

    def _relieve(self, node: NodeView, most: int, until: float, free: dict[str, int]) -> int:
        with self._transactions.begin(ACTOR) as session:
            self._nodes.look(session, afresh=True)
            movable = {str(execution.id): execution for execution in nodes.movable(session, node.name)}
        if not movable:
            return 0
        moved = 0
        with self._app.connection_for_write() as connection, waiting_messages(connection, node.name, limit=_limit(node, most)) as found:
            for message in found:
                # What is no execution of ours, such as a heartbeat, waits for its node or expires.
                execution = movable.get(str(message.headers.get("id")))
                moved += execution is not None and self._take(node, execution, message, free)
                if moved >= most or time.monotonic() > until:
                    break
        if moved:
            logger.info("rebalance.moved", extra={"node": node.name, "alive": node.alive, "executions": moved})
        return moved

    def _take(self, node: NodeView, execution: Execution, message: WaitingMessage, free: dict[str, int]) -> bool:
        """Return whether the message was taken from the node's queue; `free` has the places of living nodes, and then one less of who has it."""
        try:
            requirements = Requirements.model_validate(execution.requirements)
        except ValidationError:
            return False
        chosen = self._nodes.place(requirements, key=execution.affinity)
        if isinstance(chosen, Unplaceable):
            # First recorded, then taken: who dies between the two leaves it twice, under one id.
            with self._transactions.begin(ACTOR) as session:
                attach(session, replace(context(session), trace_id=execution.trace_id, execution_id=execution.id))
                outbox.take_back(session, execution, str(chosen))
            message.drop()
            return True
        # Of those that can do it this one has the least work: where it has no place free, none has.
        if chosen == node.name or (node.alive and free.get(chosen, 0) <= 0):
            return False
        # First moved: who dies between the two leaves it on its new node, and only the row is behind.
        message.move(chosen)
        free[chosen] = free.get(chosen, 0) - 1
        self._record(execution, chosen, node.name)
        return True

    def _record(self, execution: Execution, to: str, former: str) -> None:
        with self._transactions.begin(ACTOR) as session:
            attach(session, replace(context(session), trace_id=execution.trace_id, execution_id=execution.id))
            session.execute(update(Execution).where(Execution.id == execution.id).values(node=to, sent_at=func.clock_timestamp()))
            event_log.append(session, "execution.moved", f"execution:{execution.id}", payload={"from": former, "to": to})


def _surplus(node: NodeView, free: Mapping[str, int]) -> int:
    """Return how many messages a living node should give away, at most: no more than others have free places for."""
    # What runs and what is next stays.
    waiting = node.outstanding - 2 * node.concurrency
    return min(max(waiting, 0), sum(max(places, 0) for name, places in free.items() if name != node.name))


def _limit(node: NodeView, most: int) -> int:
    # While messages are looked at, their node does not get them.
    return MOST_LOOKED_AT if not node.alive else 2 * most + 20
