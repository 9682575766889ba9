"""The common operating picture's task: beat sends it to each node, the node writes what it is doing."""

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.services import cop

HEARTBEAT = "federation.tasks.cop.heartbeat"


@shared_task(bind=True, base=FederationTask, name=HEARTBEAT, ignore_result=True, time_limit=60)
def heartbeat(self: FederationTask, node: str) -> None:
    """Write what this node is doing into the common operating picture."""
    with self.transaction(actor=f"node:{node}") as session:
        cop.record_heartbeat(session, node)
