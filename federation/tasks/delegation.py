"""Tasks that a node does itself: with its role's prompt and its model, or by extracting from a conversation."""

import uuid
from typing import Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.errors import PermanentError
from federation.placement.node_file import node_file
from federation.services import inference, summaries, tasks
from federation.services.executions import Cancelled
from federation.store.models.tasks import AgentTask, TaskType
from federation.tasks.inference import answer
from federation.tasks.summaries import extract


@shared_task(bind=True, base=FederationTask, name=tasks.RUN_ON_NODE)
def run(self: FederationTask, *, task_id: str) -> dict[str, Any]:
    """Do a task on this node and record its result; a task that has ended meanwhile is left as it is."""
    identity = uuid.UUID(task_id)
    with self.transaction() as session:
        task = tasks.start_on_node(session, identity, self.node)
        ended = tasks.ended(session, identity) if task is None else None
    if task is None:
        # A delivery that comes after the end (its own, before the ack, or a cancellation) tells that end.
        return ended or {}
    try:
        result = _do(self, task)
    except Cancelled:
        raise
    except PermanentError as error:
        result = {"error": str(error), "node": self.node}
        with self.transaction() as session:
            tasks.end_on_node(session, identity, result=result, success=False)
        raise
    with self.transaction() as session:
        tasks.end_on_node(session, identity, result=result)
    return result


def _do(task: FederationTask, work: AgentTask) -> dict[str, Any]:
    role = node_file(task.node).role
    if work.task_type == TaskType.REPORT:
        with task.transaction() as session:
            messages = summaries.window(session, work.conversation_id)
        extracted = extract(messages)
        return {"node": task.node, "role": role, "text": extracted.text, "method": extracted.method, "message_ids": extracted.message_ids}
    prompt = work.description
    for name, value in sorted((work.parameters or {}).items()):
        prompt += f"\n{name}: {value}"
    turns = [{"role": "system", "content": inference.SYSTEM_PROMPTS.get(role, inference.DEFAULT_PROMPT)}, {"role": "user", "content": prompt}]
    counted = inference.tokens_of_task(work.description, work.parameters)
    model = work.requirements.get("model")
    return {"role": role, **answer(task, turns, max_tokens=inference.TASK_TOKENS, temperature=0.0, seed=0, counted=counted, model=model)}
