"""What each event makes of the rows that it tells of."""

import json
from collections.abc import Callable

from federation.services import replayed_executions
from federation.services.replayed_rows import Rows, Told, put, subject


def _agent_added(rows: Rows, event: Told) -> None:
    put(rows, "agents", event.payload["name"], role=event.payload["role"], created_by=event.actor)


def _token_issued(rows: Rows, event: Told) -> None:
    tokens = rows["agent_tokens"].setdefault(event.payload["name"], {"issued": 0, "revoked": 0})
    tokens["issued"] += 1


def _tokens_revoked(rows: Rows, event: Told) -> None:
    if event.payload["tokens"]:
        rows["agent_tokens"][event.payload["name"]]["revoked"] += event.payload["tokens"]


def _signer_registered(rows: Rows, event: Told) -> None:
    put(rows, "signers", event.payload["identity"], created_by=event.actor, revoked=False, **event.pick("name", "public_key"))


def _node_removed(rows: Rows, event: Told) -> None:
    for identity in event.payload.get("keys", ()):
        put(rows, "signers", identity, revoked=True)


def _service_registered(rows: Rows, event: Told) -> None:
    name, identity = event.payload["name"], subject(event)
    put(rows, "services", f"{name} {identity}", created_by=event.actor, **event.pick("role"))


def _key_added(rows: Rows, event: Told) -> None:
    told = event.pick("public_key")
    put(rows, "agent_keys", event.payload["identity"], agent=event.payload["name"], created_by=event.actor, revoked=False, **told)


def _stated(rows: Rows, event: Told) -> None:
    told = event.pick("mode", "statement", "signature")
    said = json.loads(event.payload.get("statement", "{}"))
    told |= {name: said[name] for name in ("action", "choice", "attested_by", "key", "nonce") if name in said}
    put(rows, "statements", event.payload["digest"], subject=event.stream, actor=event.actor, **told)


def _feed_ended(rows: Rows, event: Told) -> None:
    rows["feeds"].pop(event.payload["destination"], None)


def _state_updated(rows: Rows, event: Told) -> None:
    # What is not for all is told by its digest alone, and what was said before is gone.
    told = event.pick("summary", "action", "thinking", "wondering", "offering", "visibility", "said_sha256")
    rows["cop_states"][f"agent {event.actor}"] = told
    rows["cop_history"][f"agent {event.actor}"] = event.pick("action", "visibility", "said_sha256")


def _capabilities_declared(rows: Rows, event: Told) -> None:
    rows["agent_capabilities"] |= {event.actor: {"capabilities": event.payload["capabilities"]}}
    rows["agent_capabilities"] = {agent: told for agent, told in rows["agent_capabilities"].items() if told["capabilities"]}


def _handed_on(rows: Rows, event: Told) -> None:
    rows["message_receipts"].setdefault(event.payload["agent"], {"received": 0, "read": 0})["received"] += len(event.payload["message_ids"])


def _feed_began(rows: Rows, event: Told) -> None:
    put(rows, "feeds", event.payload["destination"], created_by=event.actor, **event.pick("agent", "expires_s"))


def _node_state_changed(rows: Rows, event: Told) -> None:
    put(rows, "cop_states", f"node {subject(event)}", **event.pick("action"))


def _conversation_opened(rows: Rows, event: Told) -> None:
    put(rows, "conversations", event.payload["id"], created_by=event.actor)


def _conversation_joined(rows: Rows, event: Told) -> None:
    put(rows, "conversation_members", f"{event.conversation_id} {event.payload['agent']}", added_by=event.actor)


def _message_sent(rows: Rows, event: Told) -> None:
    told = event.pick("to", "audience", "message_type", "reply_to", "correlation_id", "content_sha256", "data_sha256")
    told |= {"conversation_id": event.conversation_id, "position": event.position, "sender": event.actor}
    put(rows, "messages", event.payload["message_id"], **told)
    for name in event.payload["recipients"]:
        rows["message_receipts"].setdefault(name, {"received": 0, "read": 0})["received"] += 1


def _message_read(rows: Rows, event: Told) -> None:
    rows["message_receipts"][event.payload["agent"]]["read"] += event.payload["count"]


def _summarised(rows: Rows, event: Told) -> None:
    told = event.pick("level", "from_position", "to_position", "method", "model", "model_digest", "text_sha256", "rejected_sha256")
    # Before there were levels all were of the first.
    key = f"{event.conversation_id} {event.payload.get('level', 1)} {event.payload['from_position']}"
    put(rows, "summaries", key, created_by=event.actor, **told)


def _scheduled(rows: Rows, event: Told) -> None:
    known = rows["summary_schedules"].setdefault(event.conversation_id or "", {"created_by": event.actor})
    known.update(event.pick("cron", "messages"))


def _unscheduled(rows: Rows, event: Told) -> None:
    rows["summary_schedules"].pop(event.conversation_id or "", None)


def _artifact_stored(rows: Rows, event: Told) -> None:
    told = event.pick("name", "kind", "media_type", "size", "sha256", "task_id")
    # In the first version of the payload its field `version` was the artifact's.
    told["version"] = event.payload.get("artifact_version", event.payload.get("version"))
    put(rows, "artifacts", event.payload["artifact_id"], conversation_id=event.conversation_id, created_by=event.actor, **told)


def _node_announced(rows: Rows, event: Told) -> None:
    rows["nodes"][subject(event)] = {**event.fields(), "left": False, "lost": False}


def _conversation_moved(rows: Rows, event: Told) -> None:
    key = f"{event.conversation_id} {event.payload['number']}"
    put(rows, "conversation_phases", key, created_by=event.actor, **event.pick("phase", "reason"))


def _role_assigned(rows: Rows, event: Told) -> None:
    told = event.pick("agent", "role", "task_id")
    put(rows, "role_assignments", event.payload["assignment_id"], conversation_id=event.conversation_id, created_by=event.actor, **told)


def _task_created(rows: Rows, event: Told) -> None:
    told = event.pick("slug", "description", "type", "parameters", "priority", "executor", "requirements", "reserved_for", "requires_approval")
    told |= event.pick("parent_id", "capability", "look_up", "timeout_s", "session_id")
    if "start_at" in event.payload:
        told["scheduled"] = event.payload["start_at"] is not None
    undecided = {"result": None, "decided_by": None, "decision_reason": None, "handed_to": None, "escalated": False}
    put(rows, "agent_tasks", subject(event), conversation_id=event.conversation_id, created_by=event.actor, **undecided, **told)
    _task_changed(rows, event)


def _task_decided(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    by_a_vote = event.payload.get("decided_by")
    put(rows, "agent_tasks", subject(event), decided_by=by_a_vote or event.actor, decision_reason=event.payload["reason"])


def _task_changed(rows: Rows, event: Told) -> None:
    put(rows, "agent_tasks", subject(event), **event.pick("status", "assigned_to", "result"))


def _task_escalated(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    put(rows, "agent_tasks", subject(event), escalated=True)


def _task_handed_over(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    put(rows, "agent_tasks", subject(event), escalated=False, **event.pick("handed_to"))


def _task_reopened(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    put(rows, "agent_tasks", subject(event), result=None)


def _claim_acquired(rows: Rows, event: Told) -> None:
    resource = event.payload["resource"]
    put(rows, "claims", resource, holder=event.actor, released=False, **event.pick("fencing_token"))
    rows["claim_waiters"].pop(f"{resource} {event.actor}", None)


def _claim_waiting(rows: Rows, event: Told) -> None:
    put(rows, "claim_waiters", f"{event.payload['resource']} {event.payload['holder']}", **event.pick("place"))


def _claim_wait_ended(rows: Rows, event: Told) -> None:
    rows["claim_waiters"].pop(f"{event.payload['resource']} {event.payload['holder']}", None)


def _consensus_requested(rows: Rows, event: Told) -> None:
    told = event.pick("slug", "proposal", "options_hash", "shown", "task_id", "revision", "state", "outcome", "applied")
    put(rows, "consensus", subject(event), conversation_id=event.conversation_id, created_by=event.actor, **told)


def _consensus_changed(rows: Rows, event: Told) -> None:
    put(rows, "consensus", subject(event), **event.pick("revision", "proposal", "options_hash", "state", "outcome", "applied"))


def _acknowledged(rows: Rows, event: Told) -> None:
    put(rows, "consensus_acks", f"{subject(event)} {event.payload['revision']} {event.actor}", **event.pick("options_hash"))


def _voted(rows: Rows, event: Told) -> None:
    key = f"{event.payload['consensus_id']} {event.payload['revision']} {event.actor}"
    put(rows, "ballots", key, **event.pick("response", "choice", "confidence", "reason", "digest"))


def _session_started(rows: Rows, event: Told) -> None:
    told = event.pick("slug", "context", "voters", "expertise", "status", "outcome")
    put(rows, "agent_sessions", subject(event), conversation_id=event.conversation_id, created_by=event.actor, **told)


def _context_added(rows: Rows, event: Told) -> None:
    known = rows["agent_sessions"].setdefault(subject(event), {})
    known["context"] = {**known.get("context", {}), **event.payload["added"]}


def _session_joined(rows: Rows, event: Told) -> None:
    put(rows, "agent_session_members", f"{subject(event)} {event.actor}", **event.pick("focus"))


def _reported(rows: Rows, event: Told) -> None:
    told = event.pick("agent_id", "category", "content", "confidence", "evidence", "hypothesis_id", "validates")
    put(rows, "agent_findings", event.payload["finding_id"], session_id=subject(event), position=event.position, **told)


APPLY: dict[str, Callable[[Rows, Told], None]] = {
    "agent.added": _agent_added,
    "agent.token_issued": _token_issued,
    "agent.tokens_revoked": _tokens_revoked,
    "agent.key_added": _key_added,
    "agent.key_revoked": lambda rows, event: put(rows, "agent_keys", event.payload["identity"], revoked=True),
    "agent.state_updated": _state_updated,
    "agent.capabilities_declared": _capabilities_declared,
    "feed.began": _feed_began,
    "feed.ended": _feed_ended,
    "node.state_changed": _node_state_changed,
    "node.announced": _node_announced,
    "node.removed": _node_removed,
    "node.left": lambda rows, event: put(rows, "nodes", subject(event), left=True),
    "node.lost": lambda rows, event: put(rows, "nodes", subject(event), lost=True),
    "node.returned": lambda rows, event: put(rows, "nodes", subject(event), lost=False),
    "conversation.opened": _conversation_opened,
    "conversation.joined": _conversation_joined,
    "conversation.moved": _conversation_moved,
    "role.assigned": _role_assigned,
    "conversation.summarised": _summarised,
    "conversation.scheduled": _scheduled,
    "conversation.unscheduled": _unscheduled,
    "artifact.stored": _artifact_stored,
    "message.sent": _message_sent,
    "message.read": _message_read,
    "message.handed_on": _handed_on,
    "task.created": _task_created,
    "task.approved": _task_decided,
    "task.rejected": _task_decided,
    "task.assigned": _task_changed,
    "task.claimed": _task_changed,
    "task.released": _task_changed,
    "task.completed": _task_changed,
    "task.failed": _task_changed,
    "task.cancelled": _task_changed,
    "task.expired": _task_changed,
    "task.escalated": _task_escalated,
    "task.handed_over": _task_handed_over,
    "task.reopened": _task_reopened,
    "claim.acquired": _claim_acquired,
    "claim.waiting": _claim_waiting,
    "claim.wait_ended": _claim_wait_ended,
    "claim.lapsed": lambda rows, event: put(rows, "claims", event.payload["resource"], released=True),
    "claim.released": lambda rows, event: put(rows, "claims", event.payload["resource"], released=True),
    "consensus.requested": _consensus_requested,
    "consensus.options_changed": _consensus_changed,
    "consensus.acknowledged": _acknowledged,
    "consensus.voted": _voted,
    "consensus.closed": _consensus_changed,
    "consensus.applied": _consensus_changed,
    "session.started": _session_started,
    "session.context_added": _context_added,
    "session.joined": _session_joined,
    "session.completed": lambda rows, event: put(rows, "agent_sessions", subject(event), **event.pick("status", "outcome")),
    "finding.reported": _reported,
    "signer.registered": _signer_registered,
    "service.registered": _service_registered,
    "signer.revoked": lambda rows, event: put(rows, "signers", event.payload["identity"], revoked=True),
    "statement.made": _stated,
    **replayed_executions.APPLY,
}
