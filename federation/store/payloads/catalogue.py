"""Which payload each type of event has, and of which version; the schemas that are published, and the field `version`, come from here."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from pydantic import TypeAdapter

from federation.store.payloads import agents, claims, conversations, executions, knowledge, nodes, sessions, tasks, votes

PAYLOADS: Final[Mapping[str, type]] = {
    "agent.added": agents.AgentAdded,
    "agent.token_issued": agents.TokenIssued,
    "agent.tokens_revoked": agents.TokensRevoked,
    "agent.key_added": agents.KeyAdded,
    "agent.key_revoked": agents.KeyRevoked,
    "agent.state_updated": agents.StateUpdated,
    "agent.capabilities_declared": agents.CapabilitiesDeclared,
    "feed.began": agents.FeedBegan,
    "feed.ended": agents.FeedEnded,
    "signer.registered": agents.SignerRegistered,
    "signer.revoked": agents.SignerRevoked,
    "service.registered": agents.ServiceRegistered,
    "statement.made": agents.StatementMade,
    "conversation.opened": conversations.Opened,
    "conversation.joined": conversations.Joined,
    "conversation.moved": conversations.Moved,
    "conversation.summarised": conversations.Summarised,
    "conversation.scheduled": conversations.Scheduled,
    "conversation.unscheduled": conversations.Unscheduled,
    "role.assigned": conversations.RoleAssigned,
    "message.sent": conversations.MessageSent,
    "message.read": conversations.MessageRead,
    "message.handed_on": conversations.HandedOn,
    "task.created": tasks.Created,
    "task.assigned": tasks.Assigned,
    "task.claimed": tasks.Claimed,
    "task.released": tasks.Released,
    "task.handed_over": tasks.HandedOver,
    "task.escalated": tasks.Escalated,
    "task.approved": tasks.Decided,
    "task.rejected": tasks.Rejected,
    "task.completed": tasks.Ended,
    "task.failed": tasks.Ended,
    "task.cancelled": tasks.Ended,
    "task.expired": tasks.Ended,
    "task.reopened": tasks.Reopened,
    "claim.acquired": claims.Acquired,
    "claim.lapsed": claims.Lapsed,
    "claim.released": claims.Released,
    "claim.waiting": claims.Waits,
    "claim.wait_ended": claims.Waits,
    "consensus.requested": votes.Requested,
    "consensus.options_changed": votes.OptionsChanged,
    "consensus.acknowledged": votes.Acknowledged,
    "consensus.voted": votes.Voted,
    "consensus.closed": votes.Closed,
    "consensus.applied": votes.Applied,
    "session.started": sessions.Started,
    "session.joined": sessions.ParticipantJoined,
    "session.context_added": sessions.ContextAdded,
    "session.completed": sessions.Completed,
    "finding.reported": sessions.FindingReported,
    "hypothesis.proposed": sessions.HypothesisProposed,
    "hypothesis.validated": sessions.HypothesisValidated,
    "action.proposed": sessions.ActionProposed,
    "action.completed": sessions.ActionCompleted,
    "execution.recorded": executions.Recorded,
    "execution.placed": executions.Placed,
    "execution.moved": executions.Moved,
    "execution.parked": executions.Parked,
    "execution.delivered": executions.Delivered,
    "execution.effect_recorded": executions.EffectRecorded,
    "execution.cancelled": executions.Cancelled,
    "execution.failed": executions.Failed,
    "execution.quarantined": executions.Quarantined,
    "execution.redriven": executions.Redriven,
    "execution.dismissed": executions.Dismissed,
    "execution.outcomes_noted": executions.OutcomesNoted,
    "execution.outcomes_kept": executions.OutcomesNoted,
    "node.admitted": nodes.Admitted,
    "node.announced": nodes.Announced,
    "node.left": nodes.Left,
    "node.lost": nodes.Lost,
    "node.returned": nodes.Returned,
    "node.removed": nodes.Removed,
    "node.state_changed": nodes.StateChanged,
    "model.added": knowledge.ModelAdded,
    "model.ran": knowledge.ModelRan,
    "model.part": knowledge.ModelPart,
    "answer.kept": knowledge.AnswerKept,
    "answer.reused": knowledge.ModelRan,
    "answer.dropped": knowledge.AnswersDropped,
    "memory.remembered": knowledge.Remembered,
    "memory.embedded": knowledge.MemoryEmbedded,
    "memory.given_up": knowledge.MemoryGivenUp,
    "memory.merged": knowledge.MemoryMerged,
    "memory.summarised": knowledge.MemorySummarised,
    "memory.forgotten": knowledge.Forgotten,
    "index.scanned": knowledge.Scanned,
    "index.worded": knowledge.Chunks,
    "index.searchable": knowledge.Searchable,
    "index.batched": knowledge.Batched,
    "index.embedded": knowledge.Embedded,
    "index.written": knowledge.Chunks,
    "index.finished": knowledge.Finished,
    "graph.extracted": knowledge.Extracted,
    "artifact.stored": knowledge.ArtifactStored,
}
# All others are of the first; an event without a version is too, for before there were versions it could have none.
_VERSIONS = {
    # In its first `version` was the artifact's.
    "artifact.stored": 2,
}


def version(event_type: str) -> int:
    """Return the version of the payloads that events of a type get now."""
    return _VERSIONS.get(event_type, 1)


def file_name(event_type: str) -> PurePosixPath:
    """Return where in the documentation the schema of the payloads that events of a type get now is published."""
    return PurePosixPath("reference", "schemas", f"{event_type}.{version(event_type)}.json")


def schema(event_type: str) -> dict[str, Any]:
    """Return the JSON Schema of the payloads that events of a type get now; fields that it does not name may come."""
    found = _untitled(TypeAdapter(PAYLOADS[event_type]).json_schema())
    number = version(event_type)
    required = ["version", *found.get("required", [])]
    properties = {"version": {"const": number}, **found.get("properties", {})}
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"{event_type}, version {number}"}
    return {**about, **found, "properties": properties, "required": required}


def _untitled(found: Any) -> Any:
    # Pydantic's titles say each name once more.
    if isinstance(found, list):
        return [_untitled(each) for each in found]
    if not isinstance(found, dict):
        return found
    return {
        name: {field: _untitled(each) for field, each in value.items()} if name == "properties" else _untitled(value)
        for name, value in found.items()
        if not (name == "title" and isinstance(value, str))
    }
