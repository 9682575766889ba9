"""Sends an execution to another node that can do it, when this one cannot do it now; bounded in nodes, so that none goes round for ever."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from celery.exceptions import Retry
from sqlalchemy import func, update

from federation.delivery.task import FederationTask
from federation.errors import TransientError
from federation.placement.fitting import Unplaceable
from federation.placement.roster import Roster
from federation.services import nodes
from federation.settings import settings
from federation.store import event_log
from federation.store.models.executions import Execution

logger = logging.getLogger(__name__)

# So many nodes are asked in one go; who comes after them is not asked before a pause.
MOST_NODES = 3


def hand_over(task: FederationTask, error: TransientError, *, tried: Collection[str], changed: Mapping[str, Any], tags: Collection[str] = ()) -> None:
    """Have another node do the running execution at once, with these arguments `changed`; return where none but those `tried` can.

    `tags` are what it must have beside what was asked for, to do better than this one.
    Raises celery's Retry, with which the body ends here, and Reject where it cannot be sent.
    """
    envelope = task.envelope
    if envelope is None or len(tried) >= MOST_NODES:
        return
    me = f"node:{task.node}"
    with task.transaction(actor=me) as session:
        others = [node for node in nodes.views(session, stale_s=settings().node_stale_s) if node.name not in tried]
    needs = envelope.requirements.model_copy(update={"tags": (*envelope.requirements.tags, *tags)})
    to = Roster(others).place(needs)
    if isinstance(to, Unplaceable):
        return
    try:
        task.retry(exc=error, queue=to, countdown=0, kwargs={**(task.request.kwargs or {}), **changed})
    except Retry:
        # First sent: who dies between the two leaves it on its new node, and only the row is behind.
        with task.transaction(actor=me) as session:
            session.execute(update(Execution).where(Execution.id == task.execution_id).values(node=to, sent_at=func.clock_timestamp()))
            payload = {"from": task.node, "to": to, "reason": str(error)[:500]}
            event_log.append(session, "execution.moved", f"execution:{task.execution_id}", payload=payload)
        logger.info("execution.handed_over", extra={"execution_id": str(task.execution_id), "to": to, "reason": str(error)})
        raise
