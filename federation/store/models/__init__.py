"""All models; importing this room fills `Base.metadata`."""

from federation.store.models import (
    agents,
    artifacts,
    claims,
    consensus,
    conversations,
    cop,
    events,
    executions,
    feeds,
    inference,
    memories,
    nodes,
    retrieval,
    sessions,
    signers,
    statements,
    tasks,
)
from federation.store.models.base import Base

__all__ = [
    "Base",
    "agents",
    "artifacts",
    "claims",
    "consensus",
    "conversations",
    "cop",
    "events",
    "executions",
    "feeds",
    "inference",
    "memories",
    "nodes",
    "retrieval",
    "sessions",
    "signers",
    "statements",
    "tasks",
]
