"""What each event makes of the rows that it tells of."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Rows = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Told:
    """An event, as the rebuilding needs it."""

    type: str
    actor: str
    stream: str
    position: int
    conversation_id: str | None
    payload: Mapping[str, Any]

    def pick(self, *names: str) -> dict[str, Any]:
        """Return these fields of the payload; those that an older event does not have are left out, and so not compared."""
        return {name: self.payload[name] for name in names if name in self.payload}

    def fields(self) -> dict[str, Any]:
        """Return the payload without its version."""
        return {name: value for name, value in self.payload.items() if name != "version"}


def _subject(event: Told) -> str:
    return event.stream.partition(":")[2]


def _set(rows: Rows, table: str, key: str, /, **columns: Any) -> None:
    rows[table].setdefault(key, {}).update(columns)


def _agent_added(rows: Rows, event: Told) -> None:
    _set(rows, "agents", event.payload["name"], role=event.payload["role"], created_by=event.actor)


def _token_issued(rows: Rows, event: Told) -> None:
    tokens = rows["agent_tokens"].setdefault(event.payload["name"], {"issued": 0, "revoked": 0})
    tokens["issued"] += 1


def _tokens_revoked(rows: Rows, event: Told) -> None:
    if event.payload["tokens"]:
        rows["agent_tokens"][event.payload["name"]]["revoked"] += event.payload["tokens"]


def _signer_registered(rows: Rows, event: Told) -> None:
    _set(rows, "signers", event.payload["identity"], created_by=event.actor, revoked=False, **event.pick("name", "public_key"))


def _service_registered(rows: Rows, event: Told) -> None:
    name, identity = event.payload["name"], _subject(event)
    _set(rows, "services", f"{name} {identity}", created_by=event.actor, **event.pick("role"))


def _key_added(rows: Rows, event: Told) -> None:
    told = event.pick("public_key")
    _set(rows, "agent_keys", event.payload["identity"], agent=event.payload["name"], created_by=event.actor, revoked=False, **told)


def _stated(rows: Rows, event: Told) -> None:
    told = event.pick("mode", "statement", "signature")
    said = json.loads(event.payload.get("statement", "{}"))
    told |= {name: said[name] for name in ("action", "choice", "attested_by", "key", "nonce") if name in said}
    _set(rows, "statements", event.payload["digest"], subject=event.stream, actor=event.actor, **told)


def _feed_ended(rows: Rows, event: Told) -> None:
    rows["feeds"].pop(event.payload["destination"], None)


def _state_updated(rows: Rows, event: Told) -> None:
    # What is not for all is told by its digest alone, and what was said before is gone.
    told = event.pick("summary", "action", "thinking", "wondering", "offering", "visibility", "said_sha256")
    rows["cop_states"][f"agent {event.actor}"] = told
    rows["cop_history"][f"agent {event.actor}"] = event.pick("action", "visibility", "said_sha256")


def _capabilities_declared(rows: Rows, event: Told) -> None:
    rows["agent_capabilities"] |= {event.actor: event.pick("capabilities")}
    rows["agent_capabilities"] = {agent: told for agent, told in rows["agent_capabilities"].items() if told["capabilities"]}


def _handed_on(rows: Rows, event: Told) -> None:
    rows["message_receipts"].setdefault(event.payload["agent"], {"received": 0, "read": 0})["received"] += len(event.payload["message_ids"])


def _feed_began(rows: Rows, event: Told) -> None:
    _set(rows, "feeds", event.payload["destination"], created_by=event.actor, **event.pick("agent", "expires_s"))


def _node_state_changed(rows: Rows, event: Told) -> None:
    _set(rows, "cop_states", f"node {_subject(event)}", **event.pick("action"))


def _conversation_opened(rows: Rows, event: Told) -> None:
    _set(rows, "conversations", event.payload["id"], created_by=event.actor)


def _conversation_joined(rows: Rows, event: Told) -> None:
    _set(rows, "conversation_members", f"{event.conversation_id} {event.payload['agent']}", added_by=event.actor)


def _message_sent(rows: Rows, event: Told) -> None:
    told = event.pick("to", "audience", "message_type", "reply_to", "correlation_id", "content_sha256", "data_sha256")
    told |= {"conversation_id": event.conversation_id, "position": event.position, "sender": event.actor}
    _set(rows, "messages", event.payload["message_id"], **told)
    for name in event.payload["recipients"]:
        rows["message_receipts"].setdefault(name, {"received": 0, "read": 0})["received"] += 1


def _message_read(rows: Rows, event: Told) -> None:
    rows["message_receipts"][event.payload["agent"]]["read"] += event.payload["count"]


def _summarised(rows: Rows, event: Told) -> None:
    told = event.pick("level", "from_position", "to_position", "method", "model", "model_digest", "text_sha256", "rejected_sha256")
    # Before there were levels all were of the first.
    key = f"{event.conversation_id} {event.payload.get('level', 1)} {event.payload['from_position']}"
    _set(rows, "summaries", key, created_by=event.actor, **told)


def _scheduled(rows: Rows, event: Told) -> None:
    known = rows["summary_schedules"].setdefault(event.conversation_id or "", {"created_by": event.actor})
    known.update(event.pick("cron", "messages"))


def _unscheduled(rows: Rows, event: Told) -> None:
    rows["summary_schedules"].pop(event.conversation_id or "", None)


def _artifact_stored(rows: Rows, event: Told) -> None:
    told = event.pick("name", "kind", "media_type", "size", "sha256", "task_id")
    # In the first version of the payload its field `version` was the artifact's.
    told["version"] = event.payload.get("artifact_version", event.payload.get("version"))
    _set(rows, "artifacts", event.payload["artifact_id"], conversation_id=event.conversation_id, created_by=event.actor, **told)


def _node_announced(rows: Rows, event: Told) -> None:
    rows["nodes"][_subject(event)] = {**event.fields(), "left": False, "lost": False}


def _conversation_moved(rows: Rows, event: Told) -> None:
    key = f"{event.conversation_id} {event.payload['number']}"
    _set(rows, "conversation_phases", key, created_by=event.actor, **event.pick("phase", "reason"))


def _role_assigned(rows: Rows, event: Told) -> None:
    told = event.pick("agent", "role", "task_id")
    _set(rows, "role_assignments", event.payload["assignment_id"], conversation_id=event.conversation_id, created_by=event.actor, **told)


def _task_created(rows: Rows, event: Told) -> None:
    told = event.pick("slug", "description", "type", "parameters", "priority", "executor", "requirements", "reserved_for", "requires_approval")
    told |= event.pick("parent_id", "capability", "look_up", "timeout_s", "session_id")
    if "start_at" in event.payload:
        told["scheduled"] = event.payload["start_at"] is not None
    undecided = {"result": None, "decided_by": None, "decision_reason": None, "handed_to": None, "escalated": False}
    _set(rows, "agent_tasks", _subject(event), conversation_id=event.conversation_id, created_by=event.actor, **undecided, **told)
    _task_changed(rows, event)


def _task_decided(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    by_a_vote = event.payload.get("decided_by")
    _set(rows, "agent_tasks", _subject(event), decided_by=by_a_vote or event.actor, decision_reason=event.payload["reason"])


def _task_changed(rows: Rows, event: Told) -> None:
    _set(rows, "agent_tasks", _subject(event), **event.pick("status", "assigned_to", "result"))


def _task_escalated(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    _set(rows, "agent_tasks", _subject(event), escalated=True)


def _task_handed_over(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    _set(rows, "agent_tasks", _subject(event), escalated=False, **event.pick("handed_to"))


def _task_reopened(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    _set(rows, "agent_tasks", _subject(event), result=None)


def _claim_acquired(rows: Rows, event: Told) -> None:
    resource = event.payload["resource"]
    _set(rows, "claims", resource, holder=event.actor, released=False, **event.pick("fencing_token"))
    rows["claim_waiters"].pop(f"{resource} {event.actor}", None)


def _claim_waiting(rows: Rows, event: Told) -> None:
    _set(rows, "claim_waiters", f"{event.payload['resource']} {event.payload['holder']}", **event.pick("place"))


def _claim_wait_ended(rows: Rows, event: Told) -> None:
    rows["claim_waiters"].pop(f"{event.payload['resource']} {event.payload['holder']}", None)


def _recorded(rows: Rows, event: Told) -> None:
    told = event.pick("task_name", "requirements", "affinity", "priority", "agent_task_id", "conversation_id", "kwargs_sha256")
    _set(
        rows, "executions", _subject(event), actor=event.actor, node=None, cancelled=False, scheduled=event.payload.get("due_at") is not None, **told
    )
    rows["outbox"][_subject(event)] = {}


def _placed(rows: Rows, event: Told) -> None:
    _set(rows, "executions", _subject(event), node=event.payload["node"])
    rows["outbox"].pop(_subject(event), None)


def _moved(rows: Rows, event: Told) -> None:
    _set(rows, "executions", _subject(event), node=event.payload.get("to"))
    if event.payload.get("to") is None:
        rows["outbox"][_subject(event)] = {}


def _redriven(rows: Rows, event: Told) -> None:
    _set(rows, "redrives", event.payload["quarantine_id"], execution_id=_subject(event), actor=event.actor)
    _set(rows, "executions", _subject(event), node=None)
    rows["outbox"][_subject(event)] = {}


def _dismissed(rows: Rows, event: Told) -> None:
    _set(rows, "dismissals", event.payload["quarantine_id"], actor=event.actor, **event.pick("reason"))


def _cancelled(rows: Rows, event: Told) -> None:
    _set(rows, "executions", _subject(event), cancelled=True)
    rows["outbox"].pop(_subject(event), None)


def _consensus_requested(rows: Rows, event: Told) -> None:
    told = event.pick("slug", "proposal", "options_hash", "shown", "task_id", "revision", "state", "outcome", "applied")
    _set(rows, "consensus", _subject(event), conversation_id=event.conversation_id, created_by=event.actor, **told)


def _consensus_changed(rows: Rows, event: Told) -> None:
    _set(rows, "consensus", _subject(event), **event.pick("revision", "proposal", "options_hash", "state", "outcome", "applied"))


def _acknowledged(rows: Rows, event: Told) -> None:
    _set(rows, "consensus_acks", f"{_subject(event)} {event.payload['revision']} {event.actor}", **event.pick("options_hash"))


def _voted(rows: Rows, event: Told) -> None:
    key = f"{event.payload['consensus_id']} {event.payload['revision']} {event.actor}"
    _set(rows, "ballots", key, **event.pick("response", "choice", "confidence", "reason", "digest"))


def _session_started(rows: Rows, event: Told) -> None:
    told = event.pick("slug", "context", "voters", "expertise", "status", "outcome")
    _set(rows, "agent_sessions", _subject(event), conversation_id=event.conversation_id, created_by=event.actor, **told)


def _context_added(rows: Rows, event: Told) -> None:
    known = rows["agent_sessions"].setdefault(_subject(event), {})
    known["context"] = {**known.get("context", {}), **event.payload["added"]}


def _session_joined(rows: Rows, event: Told) -> None:
    _set(rows, "agent_session_members", f"{_subject(event)} {event.actor}", **event.pick("focus"))


def _reported(rows: Rows, event: Told) -> None:
    told = event.pick("agent_id", "category", "content", "confidence", "evidence", "hypothesis_id", "validates")
    _set(rows, "agent_findings", event.payload["finding_id"], session_id=_subject(event), position=event.position, **told)


def _delivered(rows: Rows, event: Told) -> None:
    told = event.pick("task_name", "worker", "pid", "repeated")
    _set(rows, "execution_deliveries", f"{_subject(event)} {event.payload['number']}", actor=event.actor, **told)


def _effect(rows: Rows, event: Told) -> None:
    _set(rows, "execution_effects", f"{_subject(event)} {event.payload['key']}", value=event.payload["value"], actor=event.actor)


def _quarantined(rows: Rows, event: Told) -> None:
    told = event.pick("task_name", "queue", "worker", "reason", "headers_sha256", "body_sha256")
    told["execution_id"] = _subject(event) if event.stream.startswith("execution:") else None
    _set(rows, "quarantine", event.payload["quarantine_id"], actor=event.actor, **told)


def _model_ran(rows: Rows, event: Told) -> None:
    told = event.pick("engine", "model", "model_digest", "node", "prompt_sha256", "prompt_tokens", "completion_tokens", "cached")
    _set(rows, "model_runs", _subject(event), actor=event.actor, **told)


def _answers_dropped(rows: Rows, event: Told) -> None:
    for identity in event.payload["execution_ids"]:
        rows["cached_answers"].pop(identity, None)


def _remembered(rows: Rows, event: Told) -> None:
    _set(rows, "memories", _subject(event), created_by=event.actor, embedded=False, **event.pick("visibility", "audience", "digest"))


def _forgotten(rows: Rows, event: Told) -> None:
    rows["memories"].pop(_subject(event), None)


def _scanned(rows: Rows, event: Told) -> None:
    told = event.pick("root", "root_sha256", "files", "changed", "deleted", "chunks", "batches")
    _set(rows, "index_runs", _subject(event), finished=False, created_by=event.actor, **told)
    # Before indexes had readers they were for all.
    visibility, audience = event.payload.get("visibility", "all"), event.payload.get("audience", "")
    digest = event.payload.get("root_sha256") or hashlib.sha256(event.payload["root"].encode()).hexdigest()
    folder = {"visibility": visibility, "audience": audience, "created_by": event.actor}
    rows["indexed_folders"].setdefault(f"{visibility} {audience} {digest}", folder)
    for withdrawn in event.payload.get("withdrawn", []):
        rows["indexed_folders"].pop(" ".join([*withdrawn, digest]), None)


APPLY: dict[str, Callable[[Rows, Told], None]] = {
    "agent.added": _agent_added,
    "agent.token_issued": _token_issued,
    "agent.tokens_revoked": _tokens_revoked,
    "agent.key_added": _key_added,
    "agent.key_revoked": lambda rows, event: _set(rows, "agent_keys", event.payload["identity"], revoked=True),
    "agent.state_updated": _state_updated,
    "agent.capabilities_declared": _capabilities_declared,
    "feed.began": _feed_began,
    "feed.ended": _feed_ended,
    "node.state_changed": _node_state_changed,
    "node.announced": _node_announced,
    "node.left": lambda rows, event: _set(rows, "nodes", _subject(event), left=True),
    "node.lost": lambda rows, event: _set(rows, "nodes", _subject(event), lost=True),
    "node.returned": lambda rows, event: _set(rows, "nodes", _subject(event), lost=False),
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
    "claim.lapsed": lambda rows, event: _set(rows, "claims", event.payload["resource"], released=True),
    "claim.released": lambda rows, event: _set(rows, "claims", event.payload["resource"], released=True),
    "consensus.requested": _consensus_requested,
    "consensus.options_changed": _consensus_changed,
    "consensus.acknowledged": _acknowledged,
    "consensus.voted": _voted,
    "consensus.closed": _consensus_changed,
    "consensus.applied": _consensus_changed,
    "session.started": _session_started,
    "session.context_added": _context_added,
    "session.joined": _session_joined,
    "session.completed": lambda rows, event: _set(rows, "agent_sessions", _subject(event), **event.pick("status", "outcome")),
    "finding.reported": _reported,
    "execution.recorded": _recorded,
    "execution.placed": _placed,
    "execution.moved": _moved,
    "execution.redriven": _redriven,
    "execution.dismissed": _dismissed,
    "execution.cancelled": _cancelled,
    "execution.delivered": _delivered,
    "execution.effect_recorded": _effect,
    "execution.quarantined": _quarantined,
    "signer.registered": _signer_registered,
    "service.registered": _service_registered,
    "signer.revoked": lambda rows, event: _set(rows, "signers", event.payload["identity"], revoked=True),
    "statement.made": _stated,
    "model.ran": _model_ran,
    "answer.reused": _model_ran,
    "answer.kept": lambda rows, event: _set(rows, "cached_answers", _subject(event), created_by=event.actor, **event.fields()),
    "answer.dropped": _answers_dropped,
    "memory.remembered": _remembered,
    "memory.embedded": lambda rows, event: _set(rows, "memories", _subject(event), embedded=True),
    "memory.forgotten": _forgotten,
    "memory.merged": _forgotten,
    "index.scanned": _scanned,
    "index.finished": lambda rows, event: _set(rows, "index_runs", _subject(event), finished=True),
}
