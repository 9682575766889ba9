"""Who of the broker's users may read and write what, as the parts need it; a user that stands nowhere may nothing."""

import uuid
from collections.abc import Mapping

from federation.local.activemq import DOOR, OBSERVER, OPERATOR, RELAY, STOMP, WORKER, user_of_node

# Nodes that are let in alone.
APART, ASIDE = user_of_node("apart"), user_of_node("aside")
NODES = (WORKER, APART, ASIDE)
TAG = uuid.uuid4().hex[:8]
NOBODY: tuple[str, ...] = ()
# Destination: who reads it, who writes it; the administrator does both everywhere.
RIGHTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    f"/queue/federation.node.{TAG}": ((WORKER, RELAY, OPERATOR), (*NODES, DOOR, RELAY, OPERATOR)),
    "/queue/federation.node.apart": ((WORKER, APART, RELAY, OPERATOR), (*NODES, DOOR, RELAY, OPERATOR)),
    f"/queue/DLQ.federation.node.{TAG}": ((OPERATOR,), (*NODES, OPERATOR)),
    "/queue/DLQ.federation.node.apart": ((OPERATOR,), (*NODES, OPERATOR)),
    f"/queue/DLQ.federation.{TAG}": ((OPERATOR,), (OPERATOR,)),
    f"/topic/federation.{TAG}": ((OBSERVER, OPERATOR), NOBODY),
    # What is fed to agents, and what they say, all of it through their door.
    f"/queue/federation.{TAG}": ((STOMP, WORKER, RELAY, OPERATOR), (RELAY, OPERATOR)),
    f"/queue/federation.from.{TAG}": ((WORKER, RELAY, OPERATOR), (STOMP, OPERATOR)),
    "/topic/federation.broadcast": ((STOMP, RELAY, OBSERVER, OPERATOR), (RELAY,)),
    "/topic/celery.pidbox": ((*NODES, OPERATOR), (OPERATOR,)),
    f"/queue/{TAG}.reply.celery.pidbox": ((OPERATOR,), (*NODES, OPERATOR)),
    "/topic/celery.questions.pidbox": ((*NODES, OPERATOR), (*NODES, DOOR, RELAY, OBSERVER, OPERATOR)),
    f"/queue/{TAG}.reply.celery.questions.pidbox": ((*NODES, OBSERVER, OPERATOR), (*NODES, OPERATOR)),
    "/topic/celeryev.worker.heartbeat": ((*NODES, OBSERVER, OPERATOR), (*NODES, OPERATOR)),
    "/topic/celeryev.task.succeeded": ((*NODES, OBSERVER, OPERATOR), (*NODES, OPERATOR)),
    "/topic/celeryev.task.sent": ((*NODES, OBSERVER, OPERATOR), (*NODES, DOOR, RELAY, OPERATOR)),
    "/topic/federation.events.message.sent": ((OBSERVER, OPERATOR), (RELAY, OPERATOR)),
    f"/queue/ActiveMQ.Statistics.Destination.{TAG}": (NOBODY, (RELAY, OBSERVER, OPERATOR)),
    **{f"/topic/replies.federation.{user}": ((user,), (user,)) for user in (RELAY, OBSERVER, OPERATOR)},
    "/topic/ActiveMQ.Scheduler.Management": (NOBODY, NOBODY),
    # Names of one word, and below `nobody`, are nobody's to write: who may read them is not in the way of who reads all.
    f"/queue/{TAG}": ((*NODES, RELAY, OBSERVER, OPERATOR, STOMP), NOBODY),
    f"/topic/{TAG}": ((*NODES, RELAY, OBSERVER, OPERATOR, STOMP), NOBODY),
    f"/queue/nobody.{TAG}": ((*NODES, RELAY, OBSERVER, OPERATOR, STOMP), NOBODY),
    f"/topic/nobody.{TAG}": ((*NODES, RELAY, OBSERVER, OPERATOR, STOMP), NOBODY),
    f"/topic/VirtualTopic.{TAG}": (NOBODY, NOBODY),
}
# What has wildcards or is a list, and who is let into what of it.
# Names of their own: to ActiveMQ a list that was read is a queue, in whose way who reads one of its members then is.
LISTS: Mapping[str, tuple[str, ...]] = {
    f"/queue/federation.l-{TAG},federation.node.l-{TAG}": (WORKER, RELAY, OPERATOR),
    f"/topic/federation.l-{TAG},celery.l-{TAG}.pidbox": NOBODY,
}
LAST = f"/topic/last-{TAG}"

# To ActiveMQ a list that begins with a temporary place is one, and what it judges of a list it judges of all.
TEMPORARY = ("/temp-queue/mine", "/temp-topic/mine")
PLACES = {STOMP: "/queue/federation.from.bob", OBSERVER: f"/topic/replies.federation.{OBSERVER}"}
PLACES |= {RELAY: "/queue/federation.bob", DOOR: "/topic/celery.questions.pidbox"}
PLACES |= dict.fromkeys((WORKER, APART), f"/queue/{TAG}.reply.celery.pidbox")
