"""Rebuilds from the event log what the tables should hold, and compares the two; what says only «I live» is left out."""

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
            'audience', audience, 'message_type', message_type, 'reply_to', reply_to, 'correlation_id', correlation_id,
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
    # Of each agent the last, which is what the picture shows; what was kept before that is told by events of the same transactions.
    "cop_history": """
        SELECT DISTINCT ON (subject) 'agent ' || subject, jsonb_build_object('action', action, 'visibility', visibility,
            'said_sha256', encode(sha256(convert_to(concat(
                'summary=' || length(summary) || ':' || summary || ';', 'thinking=' || length(thinking) || ':' || thinking || ';',
                'wondering=' || length(wondering) || ':' || wondering || ';', 'offering=' || length(offering) || ':' || offering || ';'
            ), 'UTF8')), 'hex')) FROM cop_history WHERE kind = 'agent' ORDER BY subject, sequence DESC
    """,
    "agent_capabilities": """
        SELECT agent, jsonb_build_object('capabilities', jsonb_agg(capability ORDER BY capability COLLATE "C")) FROM agent_capabilities GROUP BY agent
    """,
    "feeds": "SELECT destination, jsonb_build_object('agent', agent, 'expires_s', expires_s, 'created_by', created_by) FROM feeds",
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
    "executions": """
        SELECT id::text, jsonb_build_object('task_name', task_name, 'requirements', requirements, 'affinity', affinity, 'priority', priority,
            'agent_task_id', agent_task_id, 'actor', actor, 'node', node, 'cancelled', cancelled_at IS NOT NULL, 'scheduled', due_at IS NOT NULL,
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
        SELECT digest, jsonb_build_object('subject', subject, 'actor', actor, 'mode', mode, 'statement', statement,
            'signature', replace(encode(signature, 'base64'), E'\\n', '')) FROM statements
    """,
    "execution_deliveries": """
        SELECT execution_id || ' ' || number, jsonb_build_object('task_name', task_name, 'worker', worker, 'pid', pid, 'actor', actor)
        FROM execution_deliveries
    """,
    "execution_effects": "SELECT execution_id || ' ' || key, jsonb_build_object('value', value, 'actor', actor) FROM execution_effects",
    "quarantine": """
        SELECT id::text, jsonb_build_object('task_name', task_name, 'queue', queue, 'reason', reason, 'actor', actor) FROM quarantine
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
            'batches', batches, 'finished', finished_at IS NOT NULL) FROM index_runs
    """,
}
# What no event tells row by row: the log says how much of it there is, and the tables are made anew from the files.
LEFT_OUT = {"documents", "chunks", "vector_changes", "index_batches", "agent_sessions"}

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


def _set(rows: Rows, table: str, key: str, **columns: Any) -> None:
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
    _set(rows, "agent_tasks", _subject(event), decided_by=event.actor, decision_reason=event.payload["reason"])


def _task_changed(rows: Rows, event: Told) -> None:
    _set(rows, "agent_tasks", _subject(event), **event.pick("status", "assigned_to", "result"))


def _task_reopened(rows: Rows, event: Told) -> None:
    _task_changed(rows, event)
    _set(rows, "agent_tasks", _subject(event), result=None)


def _claim_acquired(rows: Rows, event: Told) -> None:
    _set(rows, "claims", event.payload["resource"], holder=event.actor, released=False, **event.pick("fencing_token"))


def _recorded(rows: Rows, event: Told) -> None:
    told = event.pick("task_name", "requirements", "affinity", "priority", "agent_task_id", "kwargs_sha256")
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


def _delivered(rows: Rows, event: Told) -> None:
    _set(rows, "execution_deliveries", f"{_subject(event)} {event.payload['number']}", actor=event.actor, **event.pick("task_name", "worker", "pid"))


def _effect(rows: Rows, event: Told) -> None:
    _set(rows, "execution_effects", f"{_subject(event)} {event.payload['key']}", value=event.payload["value"], actor=event.actor)


def _quarantined(rows: Rows, event: Told) -> None:
    _set(rows, "quarantine", event.payload["quarantine_id"], actor=event.actor, **event.pick("task_name", "queue", "reason"))


def _model_ran(rows: Rows, event: Told) -> None:
    told = event.pick("engine", "model", "model_digest", "node", "prompt_sha256", "prompt_tokens", "completion_tokens")
    _set(rows, "model_runs", _subject(event), actor=event.actor, **told)


def _scanned(rows: Rows, event: Told) -> None:
    told = event.pick("root", "files", "changed", "deleted", "chunks", "batches")
    _set(rows, "index_runs", _subject(event), finished=False, **told)


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
    "conversation.summarised": _summarised,
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
    "task.reopened": _task_reopened,
    "claim.acquired": _claim_acquired,
    "claim.released": lambda rows, event: _set(rows, "claims", event.payload["resource"], released=True),
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
