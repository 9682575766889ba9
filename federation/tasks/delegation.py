"""Tasks that a node does itself: with its role's prompt, what is found in the indexed files, and its model, or by extracting from a conversation."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.errors import PermanentError
from federation.placement.node_file import node_file
from federation.services import executions, indexed_folders, inference, retrieval, summaries, task_ends, tasks
from federation.services.executions import Cancelled
from federation.services.retrieval import Hit
from federation.store.models.tasks import ENDED, AgentTask, TaskType
from federation.tasks.inference import answer
from federation.tasks.retrieval import best
from federation.tasks.summaries import extract
from federation.vectors.filters import Scope


@shared_task(bind=True, base=FederationTask, name=tasks.LOOK_UP, time_limit=300)
def look_up(self: FederationTask, *, task_id: str) -> dict[str, Any]:
    """Find what the indexed files say about a task, and have a node do it with that; nothing waits here for that node."""
    identity = uuid.UUID(task_id)
    with self.transaction() as session:
        task = session.get_one(AgentTask, identity)
        if task.status in ENDED:
            return task_ends.ended(session, identity)
        # Of what the asker may see only that which all may who read the answer.
        scope = Scope(collections=indexed_folders.collections(session, shared_with=task.conversation_id))
    found = best(self, task.description, scope, limit=inference.SOURCES)
    with self.transaction() as session:
        sources = [_place(hit) for _, hit in found]
        if executions.once(session, "looked_up", {"sources": sources}):
            tasks.send_with_sources(session, task, [chunk_id for chunk_id, _ in found])
    return {"sources": sources}


# Each node that it goes to takes one of its tries.
@shared_task(bind=True, base=FederationTask, name=tasks.RUN_ON_NODE, max_retries=FederationTask.max_retries * 2)
def run(
    self: FederationTask,
    *,
    task_id: str,
    sources: Sequence[str] = (),
    model: str | None = None,
    by_role: str | None = None,
    former: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Do a task on this node and record its result, or have another node do it where no model of this one answers now.

    `model`, `by_role` and `former` are those of `inference.answer`. A task that has ended meanwhile is left as it is.
    """
    identity = uuid.UUID(task_id)
    with self.transaction() as session:
        task = task_ends.start_on_node(session, identity, self.node)
        ended = task_ends.ended(session, identity) if task is None else None
        found = retrieval.show(session, [(uuid.UUID(each), 0.0, ()) for each in sources])
    if task is None:
        # A delivery that comes after the end (its own, before the ack, or a cancellation) tells that end.
        return ended or {}
    try:
        result = _do(self, task, found, model=model or task.requirements.get("model"), by_role=by_role, former=former)
    except Cancelled:
        raise
    except PermanentError as error:
        result = {"error": str(error), "node": self.node}
        with self.transaction() as session:
            task_ends.end_on_node(session, identity, result=result, success=False)
        raise
    with self.transaction() as session:
        task_ends.end_on_node(session, identity, result=result)
    return result


def _do(task: FederationTask, work: AgentTask, found: Sequence[Hit], **routing: Any) -> dict[str, Any]:
    role = node_file(task.node).role
    if work.task_type == TaskType.REPORT:
        with task.transaction() as session:
            messages = summaries.window(session, work.conversation_id)
        extracted = extract(messages)
        return {"node": task.node, "role": role, "text": extracted.text, "method": extracted.method, "message_ids": extracted.message_ids}
    prompt = work.description
    for name, value in sorted((work.parameters or {}).items()):
        prompt += f"\n{name}: {value}"
    for hit in found:
        prompt += f"\n\nFrom {hit.path}, line {hit.start_line}:\n{hit.text[: inference.SOURCE_CHARACTERS]}"
    turns = [{"role": "system", "content": inference.SYSTEM_PROMPTS.get(role, inference.DEFAULT_PROMPT)}, {"role": "user", "content": prompt}]
    counted = inference.tokens_of_task(work.description, work.parameters, look_up=work.look_up)
    answered = answer(task, turns, max_tokens=inference.TASK_TOKENS, temperature=0.0, seed=0, counted=counted, may_move=True, **routing)
    read = {"sources": [_place(hit) for hit in found]} if work.look_up else {}
    return {"role": role, **answered, **read}


def _place(hit: Hit) -> dict[str, Any]:
    return {"root": hit.root, "path": hit.path, "start_line": hit.start_line, "end_line": hit.end_line, "title": hit.title}
