"""`federation stomp`: the agents' door to ActiveMQ, for those that speak STOMP."""

from federation.stomp import server


def stomp() -> None:
    """Serve STOMP to the agents that may speak it (`federation agent stomp`), until Ctrl-C."""
    server.serve()
