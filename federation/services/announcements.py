"""Messages about tasks, to those who may take them, decide on them, or have asked for them: nobody would look for what he has not heard of.

They are the program's and count against nobody; that somebody delegates what others are told of counts as one message of his, however many hear it.
"""

import json
from collections.abc import Sequence

from sqlalchemy.orm import Session

from federation.services import limits, messages, task_terms
from federation.services.charter import is_agent
from federation.store.context import context
from federation.store.models.conversations import MessageType
from federation.store.models.tasks import AgentTask, Executor, TaskStatus


def of_work(session: Session, task: AgentTask) -> None:
    """Tell those who may claim a task of agents; of one's own, or a node's, there is nobody to tell. Raises RateLimited."""
    if task.executor != Executor.AGENT or task.reserved_for == context(session).actor:
        return
    # Where another approved it, who asked for it does nothing now: his allowance refuses nobody else, and nobody else waits for it.
    if task.decided_by is None:
        limits.message(session)
    wanted = task.requirements.get("role")
    what = f"Task {_called(task)}{f' for the role {wanted}' if wanted else ''}: {task.description}"
    more = f" Its parameters are in federation_task_status('{_called(task)}')." if task.parameters else ""
    _send(session, task, f"{what}\nClaim it with federation_claim_task('{_called(task)}').{more}", to=task.reserved_for)


def of_request(session: Session, task: AgentTask, deciders: Sequence[str]) -> None:
    """Ask each of those who may decide on a task that awaits approval. Raises RateLimited."""
    if deciders:
        limits.message(session)
    decide = f"federation_approve('{_called(task)}', decision='approve', reason='…'), or decision='reject'"
    # In one line, and before the words of who asks, which could have lines that look like it.
    terms = json.dumps(task_terms.terms(task), ensure_ascii=False)
    for name in deciders:
        _send(session, task, f"Task {_called(task)} awaits your approval, with {terms}:\n{task.description}\nDecide with {decide}.", to=name)


def of_decision(session: Session, task: AgentTask) -> None:
    """Tell who asked for a task what was decided; an operator, who is no agent, tells nobody, and the task itself says it."""
    actor = context(session).actor
    if is_agent(actor) and actor != task.created_by:
        decided = "rejected" if task.status == TaskStatus.CANCELLED else "approved"
        reason = f": {task.decision_reason}" if task.decision_reason else "."
        _send(session, task, f"Task {_called(task)} was {decided}{reason}", to=task.created_by, message_type=MessageType.STATUS)


def _called(task: AgentTask) -> str:
    return task.slug or str(task.id)


def _send(session: Session, task: AgentTask, content: str, *, to: str | None, message_type: MessageType = MessageType.TASK) -> None:
    data = {"task_id": str(task.id), "slug": task.slug, "role": task.requirements.get("role"), "priority": task.priority}
    messages.send(session, content, to=to, message_type=message_type, conversation_id=task.conversation_id, data=data, counted=False)
