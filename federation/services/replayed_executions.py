"""What events of executions, and of what comes of them (answers, memories, indexes), make of the rows that they tell of."""

import hashlib
from collections.abc import Callable

from federation.services.replayed_rows import Rows, Told, put, subject


def _recorded(rows: Rows, event: Told) -> None:
    told = event.pick("task_name", "requirements", "affinity", "priority", "agent_task_id", "conversation_id", "kwargs_sha256")
    put(rows, "executions", subject(event), actor=event.actor, node=None, cancelled=False, scheduled=event.payload.get("due_at") is not None, **told)
    rows["outbox"][subject(event)] = {}


def _placed(rows: Rows, event: Told) -> None:
    put(rows, "executions", subject(event), node=event.payload["node"])
    rows["outbox"].pop(subject(event), None)


def _moved(rows: Rows, event: Told) -> None:
    put(rows, "executions", subject(event), node=event.payload.get("to"))
    if event.payload.get("to") is None:
        rows["outbox"][subject(event)] = {}


def _redriven(rows: Rows, event: Told) -> None:
    put(rows, "redrives", event.payload["quarantine_id"], execution_id=subject(event), actor=event.actor)
    put(rows, "executions", subject(event), node=None)
    rows["outbox"][subject(event)] = {}


def _dismissed(rows: Rows, event: Told) -> None:
    put(rows, "dismissals", event.payload["quarantine_id"], actor=event.actor, **event.pick("reason"))


def _cancelled(rows: Rows, event: Told) -> None:
    put(rows, "executions", subject(event), cancelled=True)
    rows["outbox"].pop(subject(event), None)


def _delivered(rows: Rows, event: Told) -> None:
    told = event.pick("task_name", "worker", "pid", "repeated")
    put(rows, "execution_deliveries", f"{subject(event)} {event.payload['number']}", actor=event.actor, **told)


def _effect(rows: Rows, event: Told) -> None:
    put(rows, "execution_effects", f"{subject(event)} {event.payload['key']}", value=event.payload["value"], actor=event.actor)


def _quarantined(rows: Rows, event: Told) -> None:
    told = event.pick("task_name", "queue", "worker", "reason", "headers_sha256", "body_sha256")
    told["execution_id"] = subject(event) if event.stream.startswith("execution:") else None
    put(rows, "quarantine", event.payload["quarantine_id"], actor=event.actor, **told)


def _model_ran(rows: Rows, event: Told) -> None:
    told = event.pick("engine", "model", "model_digest", "node", "prompt_sha256", "prompt_tokens", "completion_tokens", "cached")
    put(rows, "model_runs", subject(event), actor=event.actor, **told)


def _answers_dropped(rows: Rows, event: Told) -> None:
    for identity in event.payload["execution_ids"]:
        rows["cached_answers"].pop(identity, None)


def _remembered(rows: Rows, event: Told) -> None:
    put(rows, "memories", subject(event), created_by=event.actor, embedded=False, **event.pick("visibility", "audience", "digest"))


def _forgotten(rows: Rows, event: Told) -> None:
    rows["memories"].pop(subject(event), None)


def _scanned(rows: Rows, event: Told) -> None:
    told = event.pick("root", "root_sha256", "files", "changed", "deleted", "chunks", "batches")
    put(rows, "index_runs", subject(event), searchable=False, finished=False, created_by=event.actor, **told)
    # Before indexes had readers they were for all.
    visibility, audience = event.payload.get("visibility", "all"), event.payload.get("audience", "")
    digest = event.payload.get("root_sha256") or hashlib.sha256(event.payload["root"].encode()).hexdigest()
    folder = {"visibility": visibility, "audience": audience, "created_by": event.actor}
    rows["indexed_folders"].setdefault(f"{visibility} {audience} {digest}", folder)
    for withdrawn in event.payload.get("withdrawn", []):
        rows["indexed_folders"].pop(" ".join([*withdrawn, digest]), None)


APPLY: dict[str, Callable[[Rows, Told], None]] = {
    "execution.recorded": _recorded,
    "execution.placed": _placed,
    "execution.moved": _moved,
    "execution.redriven": _redriven,
    "execution.dismissed": _dismissed,
    "execution.cancelled": _cancelled,
    "execution.delivered": _delivered,
    "execution.effect_recorded": _effect,
    "execution.quarantined": _quarantined,
    "model.ran": _model_ran,
    "answer.reused": _model_ran,
    "answer.kept": lambda rows, event: put(rows, "cached_answers", subject(event), created_by=event.actor, **event.fields()),
    "answer.dropped": _answers_dropped,
    "memory.remembered": _remembered,
    "memory.embedded": lambda rows, event: put(rows, "memories", subject(event), embedded=True),
    "memory.forgotten": _forgotten,
    "memory.merged": _forgotten,
    "index.scanned": _scanned,
    "index.searchable": lambda rows, event: put(rows, "index_runs", subject(event), searchable=True),
    # An older run told of its end alone.
    "index.finished": lambda rows, event: put(rows, "index_runs", subject(event), searchable=True, finished=True),
}
