"""Rebuilds from the event log what the tables should hold, and compares the two; what says only «I live» is left out."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

Rows = dict[str, dict[str, dict[str, Any]]]
Progress = Callable[[int, int], None]
FETCHED_AT_ONCE = 2_000


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


@dataclass(frozen=True, slots=True)
class Difference:
    """A row, or one of its columns, that is not what the events make of it; None stands for a row that is not there."""

    table: str
    key: str
    column: str | None
    replayed: Any
    stored: Any


@dataclass(frozen=True, slots=True)
class Replayed:
    """How much was replayed into how many rows, and what differs."""

    events: int
    rows: int
    differences: list[Difference]


# What is compared: for each table, keys and columns as JSON. Moments are compared as whether there is one.
STORED = {
    "agents": "SELECT name, jsonb_build_object('role', role, 'created_by', created_by) FROM agents",
    "agent_tokens": "SELECT agent, jsonb_build_object('issued', count(*), 'revoked', count(revoked_at)) FROM agent_tokens GROUP BY agent",
    "conversations": "SELECT id, jsonb_build_object('created_by', created_by) FROM conversations",
    "conversation_members": "SELECT conversation_id || ' ' || agent, jsonb_build_object('added_by', added_by) FROM conversation_members",
    "messages": """
        SELECT id::text, jsonb_build_object('conversation_id', conversation_id, 'position', position, 'sender', sender, 'to', recipient,
            'message_type', message_type, 'reply_to', reply_to, 'correlation_id', correlation_id,
            'content_sha256', encode(sha256(convert_to(content, 'UTF8')), 'hex'),
            'data_sha256', encode(sha256(convert_to(data::text, 'UTF8')), 'hex')) FROM messages
    """,
    "message_receipts": "SELECT agent, jsonb_build_object('received', count(*), 'read', count(read_at)) FROM message_receipts GROUP BY agent",
    "cop_states": """
        SELECT kind || ' ' || subject, CASE kind WHEN 'node' THEN jsonb_build_object('action', action) ELSE jsonb_build_object(
            'summary', summary, 'action', action, 'thinking', thinking, 'wondering', wondering, 'offering', offering, 'visibility', visibility,
            'said_sha256', encode(sha256(convert_to(concat(
                'summary=' || length(summary) || ':' || summary || ';', 'thinking=' || length(thinking) || ':' || thinking || ';',
                'wondering=' || length(wondering) || ':' || wondering || ';', 'offering=' || length(offering) || ':' || offering || ';'
            ), 'UTF8')), 'hex')) END FROM cop_states
    """,
    "nodes": """
        SELECT name, jsonb_build_object('role', role, 'tags', tags, 'engines', engines, 'models', models, 'gpus', gpus, 'missing', missing,
            'concurrency', concurrency, 'hostname', hostname, 'pid', pid, 'incarnation', incarnation, 'simulated', simulated,
            'left', left_at IS NOT NULL, 'lost', lost_at IS NOT NULL) FROM nodes
    """,
    "agent_tasks": """
        SELECT id::text, jsonb_build_object('conversation_id', conversation_id, 'slug', slug, 'description', description, 'type', task_type,
            'parameters', parameters, 'priority', priority, 'executor', executor, 'requirements', requirements, 'reserved_for', reserved_for,
            'created_by', created_by, 'status', status, 'assigned_to', assigned_to, 'result', result, 'scheduled', start_at IS NOT NULL,
            'requires_approval', requires_approval, 'decided_by', decided_by, 'decision_reason', decision_reason) FROM agent_tasks
    """,
    "claims": """
        SELECT resource, jsonb_build_object('holder', holder, 'fencing_token', fencing_token, 'released', released_at IS NOT NULL) FROM claims
    """,
    "claim_waiters": "SELECT resource || ' ' || holder, jsonb_build_object('place', place) FROM claim_waiters",
    "executions": """
        SELECT id::text, jsonb_build_object('task_name', task_name, 'requirements', requirements, 'affinity', affinity, 'priority', priority,
            'agent_task_id', agent_task_id, 'conversation_id', conversation_id, 'actor', actor, 'node', node,
            'cancelled', cancelled_at IS NOT NULL, 'scheduled', due_at IS NOT NULL,
            'kwargs_sha256', encode(sha256(convert_to(kwargs::text, 'UTF8')), 'hex')) FROM executions
    """,
    "outbox": "SELECT execution_id::text, jsonb_build_object() FROM outbox",
    "signers": """
        SELECT identity, jsonb_build_object('name', name, 'public_key', public_key, 'created_by', created_by, 'revoked', revoked_at IS NOT NULL)
        FROM signers
    """,
    "agent_keys": """
        SELECT identity, jsonb_build_object('agent', agent, 'public_key', public_key, 'created_by', created_by, 'revoked', revoked_at IS NOT NULL)
        FROM agent_keys
    """,
    "statements": """
        SELECT digest, jsonb_build_object('subject', subject, 'actor', actor, 'mode', mode, 'statement', statement, 'action', action,
            'choice', choice, 'attested_by', attested_by, 'key', key, 'nonce', nonce,
            'signature', replace(encode(signature, 'base64'), E'\\n', '')) FROM statements
    """,
    "consensus": """
        SELECT id::text, jsonb_build_object('conversation_id', conversation_id, 'slug', slug, 'revision', revision, 'proposal', proposal,
            'options_hash', options_hash, 'shown', shown, 'task_id', task_id, 'state', state, 'outcome', outcome, 'created_by', created_by,
            'applied', applied_at IS NOT NULL) FROM consensus
    """,
    "consensus_acks": "SELECT consensus_id || ' ' || revision || ' ' || actor, jsonb_build_object('options_hash', options_hash) FROM consensus_acks",
    "ballots": """
        SELECT consensus_id || ' ' || revision || ' ' || actor, jsonb_build_object('response', response, 'choice', choice,
            'confidence', confidence, 'reason', reason, 'digest', digest) FROM ballots
    """,
    "execution_deliveries": """
        SELECT execution_id || ' ' || number, jsonb_build_object('task_name', task_name, 'worker', worker, 'pid', pid, 'repeated', redelivered,
            'actor', actor) FROM execution_deliveries
    """,
    "execution_effects": "SELECT execution_id || ' ' || key, jsonb_build_object('value', value, 'actor', actor) FROM execution_effects",
    "quarantine": """
        SELECT id::text, jsonb_build_object('task_name', task_name, 'execution_id', execution_id, 'queue', queue, 'worker', worker,
            'reason', reason, 'headers_sha256', encode(sha256(convert_to(headers::text, 'UTF8')), 'hex'),
            'body_sha256', encode(sha256(body), 'hex'), 'actor', actor) FROM quarantine
    """,
    "redrives": "SELECT quarantine_id::text, jsonb_build_object('execution_id', execution_id, 'actor', actor) FROM redrives",
    "summaries": """
        SELECT conversation_id || ' ' || from_position, jsonb_build_object('from_position', from_position, 'to_position', to_position,
            'method', method, 'model', model, 'model_digest', model_digest, 'text_sha256', encode(sha256(convert_to(text, 'UTF8')), 'hex'),
            'created_by', created_by) FROM summaries
    """,
    "model_runs": """
        SELECT execution_id::text, jsonb_build_object('engine', engine, 'model', model, 'model_digest', model_digest, 'node', node,
            'prompt_sha256', prompt_sha256, 'prompt_tokens', prompt_tokens, 'completion_tokens', completion_tokens, 'actor', actor) FROM model_runs
    """,
    "index_runs": """
        SELECT id::text, jsonb_build_object('root', root, 'files', files, 'changed', changed_files, 'deleted', deleted_files, 'chunks', chunks,
            'batches', batches, 'finished', finished_at IS NOT NULL, 'created_by', created_by) FROM index_runs
    """,
}
# What no event tells row by row: the log says how much of it there is, and the tables are made anew from the files.
LEFT_OUT = {"documents", "chunks", "vector_changes", "index_batches", "agent_sessions"}
# Of the tables that are compared: who wrote a row last and when, which are the event's own columns; and what was derived, counted or noted beside it.
IN_THE_EVENT = {
    "trace_id",
    "updated_by",
    "updated_at",
    "created_at",
    "announced_at",
    "joined_at",
    "acquired_at",
    "delivered_at",
    "sent_at",
    "ended_at",
}
COLUMNS_LEFT_OUT = {
    # A token's hash is in no event; its name for people and its end neither.
    "agent_tokens": {"id", "token_sha256", "label", "created_by", "expires_at"},
    # Counted from messages, for beat.
    "conversations": {"unsummarised"},
    # The receipts of each agent are counted.
    "message_receipts": {"position", "message_id"},
    # Signs of life, and what a node is doing.
    "cop_states": {"data"},
    "nodes": {"last_seen_at", "load"},
    "agent_tasks": {"session_id", "completed_at"},
    "claims": {"description", "expires_at"},
    # Copied from Celery's result when that is removed.
    "executions": {"outcome"},
    # How often it was tried, and in vain for what.
    "outbox": {"waiting_for", "attempts", "tried_at"},
    "execution_deliveries": {"retries", "returns", "signature", "message_id"},
    "summaries": {"id", "message_ids"},
    # What a model was given and said: the log may be read by more than who asked.
    "model_runs": {"parameters", "completion", "finish_reason", "seconds"},
    "index_runs": {"skipped"},
}

_EVENTS = text(
    """
    SELECT e.type, e.actor, e.stream, e.position, e.conversation_id, e.payload FROM events e LEFT JOIN event_order o USING (sequence)
    ORDER BY o.number NULLS LAST, e.sequence
    """
)
_COUNT = text("SELECT count(*) FROM events")


def replay(session: Session, progress: Progress = lambda done, total: None) -> Replayed:
    """Make all events happen again in their order, in memory, and compare what comes of it with the tables."""
    rebuilt: Rows = {table: {} for table in STORED}
    total = session.execute(_COUNT).scalar_one()
    done = 0
    for row in session.execute(_EVENTS, execution_options={"yield_per": FETCHED_AT_ONCE}):
        event = Told(*row)
        apply = APPLY.get(event.type)
        if apply is not None:
            apply(rebuilt, event)
        done += 1
        if done % FETCHED_AT_ONCE == 0:
            progress(done, total)
    differences = [difference for table in STORED for difference in _compared(session, table, rebuilt[table])]
    return Replayed(done, sum(map(len, rebuilt.values())), differences)


def _compared(session: Session, table: str, rebuilt: dict[str, dict[str, Any]]) -> Iterator[Difference]:
    stored: dict[str, dict[str, Any]] = {key: row for key, row in session.execute(text(STORED[table]))}  # noqa: C416 - rows are no pairs to mypy
    for key in sorted(rebuilt.keys() | stored.keys()):
        if key not in stored or key not in rebuilt:
            yield Difference(table, key, None, rebuilt.get(key), stored.get(key))
            continue
        for column, value in rebuilt[key].items():
            if stored[key].get(column) != value:
                yield Difference(table, key, column, value, stored[key].get(column))


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


def _key_added(rows: Rows, event: Told) -> None:
    told = event.pick("public_key")
    _set(rows, "agent_keys", event.payload["identity"], agent=event.payload["name"], created_by=event.actor, revoked=False, **told)


def _stated(rows: Rows, event: Told) -> None:
    told = event.pick("mode", "statement", "signature")
    said = json.loads(event.payload.get("statement", "{}"))
    told |= {name: said[name] for name in ("action", "choice", "attested_by", "key", "nonce") if name in said}
    _set(rows, "statements", event.payload["digest"], subject=event.stream, actor=event.actor, **told)


def _state_updated(rows: Rows, event: Told) -> None:
    # What is not for all is told by its digest alone, and what was said before is gone.
    told = event.pick("summary", "action", "thinking", "wondering", "offering", "visibility", "said_sha256")
    rows["cop_states"][f"agent {event.actor}"] = told


def _node_state_changed(rows: Rows, event: Told) -> None:
    _set(rows, "cop_states", f"node {_subject(event)}", **event.pick("action"))


def _conversation_opened(rows: Rows, event: Told) -> None:
    _set(rows, "conversations", event.payload["id"], created_by=event.actor)


def _conversation_joined(rows: Rows, event: Told) -> None:
    _set(rows, "conversation_members", f"{event.conversation_id} {event.payload['agent']}", added_by=event.actor)


def _message_sent(rows: Rows, event: Told) -> None:
    told = event.pick("to", "message_type", "reply_to", "correlation_id", "content_sha256", "data_sha256")
    told |= {"conversation_id": event.conversation_id, "position": event.position, "sender": event.actor}
    _set(rows, "messages", event.payload["message_id"], **told)
    for name in event.payload["recipients"]:
        rows["message_receipts"].setdefault(name, {"received": 0, "read": 0})["received"] += 1


def _message_read(rows: Rows, event: Told) -> None:
    rows["message_receipts"][event.payload["agent"]]["read"] += event.payload["count"]


def _summarised(rows: Rows, event: Told) -> None:
    told = event.pick("from_position", "to_position", "method", "model", "model_digest", "text_sha256")
    _set(rows, "summaries", f"{event.conversation_id} {event.payload['from_position']}", created_by=event.actor, **told)


def _node_announced(rows: Rows, event: Told) -> None:
    rows["nodes"][_subject(event)] = {**event.payload, "left": False, "lost": False}


def _task_created(rows: Rows, event: Told) -> None:
    told = event.pick("slug", "description", "type", "parameters", "priority", "executor", "requirements", "reserved_for", "requires_approval")
    if "start_at" in event.payload:
        told["scheduled"] = event.payload["start_at"] is not None
    undecided = {"result": None, "decided_by": None, "decision_reason": None}
    _set(rows, "agent_tasks", _subject(event), conversation_id=event.conversation_id, created_by=event.actor, **undecided, **told)
    _task_changed(rows, event)


def _task_decided(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    by_a_vote = event.payload.get("decided_by")
    _set(rows, "agent_tasks", _subject(event), decided_by=by_a_vote or event.actor, decision_reason=event.payload["reason"])


def _task_changed(rows: Rows, event: Told) -> None:
    _set(rows, "agent_tasks", _subject(event), **event.pick("status", "assigned_to", "result"))


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
    told = event.pick("engine", "model", "model_digest", "node", "prompt_sha256", "prompt_tokens", "completion_tokens")
    _set(rows, "model_runs", _subject(event), actor=event.actor, **told)


def _scanned(rows: Rows, event: Told) -> None:
    told = event.pick("root", "files", "changed", "deleted", "chunks", "batches")
    _set(rows, "index_runs", _subject(event), finished=False, created_by=event.actor, **told)


APPLY: dict[str, Callable[[Rows, Told], None]] = {
    "agent.added": _agent_added,
    "agent.token_issued": _token_issued,
    "agent.tokens_revoked": _tokens_revoked,
    "agent.key_added": _key_added,
    "agent.key_revoked": lambda rows, event: _set(rows, "agent_keys", event.payload["identity"], revoked=True),
    "agent.state_updated": _state_updated,
    "node.state_changed": _node_state_changed,
    "node.announced": _node_announced,
    "node.left": lambda rows, event: _set(rows, "nodes", _subject(event), left=True),
    "node.lost": lambda rows, event: _set(rows, "nodes", _subject(event), lost=True),
    "node.returned": lambda rows, event: _set(rows, "nodes", _subject(event), lost=False),
    "conversation.opened": _conversation_opened,
    "conversation.joined": _conversation_joined,
    "conversation.summarised": _summarised,
    "message.sent": _message_sent,
    "message.read": _message_read,
    "task.created": _task_created,
    "task.approved": _task_decided,
    "task.rejected": _task_decided,
    "task.assigned": _task_changed,
    "task.claimed": _task_changed,
    "task.released": _task_changed,
    "task.completed": _task_changed,
    "task.failed": _task_changed,
    "task.cancelled": _task_changed,
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
    "execution.recorded": _recorded,
    "execution.placed": _placed,
    "execution.moved": _moved,
    "execution.redriven": _redriven,
    "execution.cancelled": _cancelled,
    "execution.delivered": _delivered,
    "execution.effect_recorded": _effect,
    "execution.quarantined": _quarantined,
    "signer.registered": _signer_registered,
    "signer.revoked": lambda rows, event: _set(rows, "signers", event.payload["identity"], revoked=True),
    "statement.made": _stated,
    "model.ran": _model_ran,
    "index.scanned": _scanned,
    "index.finished": lambda rows, event: _set(rows, "index_runs", _subject(event), finished=True),
}
# These change no column that is compared.
WITHOUT_A_ROW = {"execution.parked", "execution.outcomes_noted", "execution.outcomes_kept", "index.embedded", "index.written"}
