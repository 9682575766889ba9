"""The common operating picture's task: beat sends it to each node, the node writes what it is doing."""

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.services import cop, nodes
from federation.store import event_log
from federation.store.models.cop import Action, SubjectKind

HEARTBEAT = "federation.tasks.cop.heartbeat"


@shared_task(bind=True, base=FederationTask, name=HEARTBEAT, ignore_result=True)
def heartbeat(self: FederationTask, node: str) -> None:
    """Write what this node is doing into the common operating picture."""
    with self.transaction(actor=f"node:{node}") as session:
        load = nodes.load(session, node)
        action = Action.EXECUTING if load.running else Action.IDLE
        values = {
            "summary": f"{load.running} running, {load.queued} queued",
            "action": action,
            "data": {"running": load.running, "queued": load.queued},
        }
        if cop.record(session, SubjectKind.NODE, node, values).changed:
            event_log.append(session, "node.state_changed", f"node:{node}", payload=values)
