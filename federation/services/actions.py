"""Actions: messages that say what somebody does or wants done; one that requires approval is a task too, which waits for it."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.services import approvals, audiences, conversations, delegation, envelopes, messages, tasks
from federation.services.messages import Sent
from federation.store.context import context
from federation.store.models.conversations import MessageType
from federation.store.models.tasks import Executor, TaskType

# What kind of work it is to do what an action says.
WORK = {"query": TaskType.INVESTIGATE, "modify": TaskType.REMEDIATE, "notify": TaskType.REPORT, "escalate": TaskType.INVESTIGATE}


def send(
    session: Session,
    content: str | None,
    *,
    to: str | None = None,
    message_type: str | None = None,
    conversation_id: str | None = None,
    reply_to: uuid.UUID | None = None,
    body: Mapping[str, Any] | None = None,
    slug: str | None = None,
    session_id: uuid.UUID | None = None,
) -> Sent:
    """Send a message as `messages.send` does; for an action that requires approval record the task too that awaits it, and name it in the message.

    `session_id` is the session out of which it is said, which is named in the message too.
    Raises what `messages.send` and `delegation.hand_out` raise.
    """
    data: dict[str, Any] = {} if session_id is None else {"source_session": str(session_id)}
    if message_type == MessageType.ACTION and (envelope := envelopes.read(MessageType.ACTION, body)) and envelope.requires_approval:
        words = content or envelope.content or envelope.words
        data["task_id"] = _parked(session, words, envelope.data, to=to, conversation_id=conversation_id, slug=slug)
    sent = messages.send(
        session,
        content,
        to=to,
        message_type=message_type,
        conversation_id=conversation_id,
        reply_to=reply_to,
        body=body,
        data=data or None,
        slug=slug,
    )
    if "task_id" not in data:
        return sent
    return replace(sent, waiting_for=approvals.waits_for(session, tasks.find(session, data["task_id"])))


def _parked(session: Session, content: str, said: Mapping[str, Any], *, to: str | None, conversation_id: str | None, slug: str | None) -> str:
    """Record the task that does what an action says, once it is approved; return its id."""
    address = audiences.parse(session, to)
    if address.audience is not None and not address.audience.startswith(audiences.ROLE):
        raise InvalidInput("to", to, "an agent, a role or nobody, where an action requires approval")
    role = {} if address.audience is None else {"role": address.audience.removeprefix(audiences.ROLE)}
    if conversation_id is None and address.agent is not None:
        conversation_id = conversations.direct(context(session).actor, address.agent)
    task = delegation.hand_out(
        session,
        content,
        task_type=WORK[said["type"]],
        executor=Executor.AGENT,
        agent=address.agent,
        requirements=role,
        parameters={name: value for name, value in said.items() if name != "requires_approval"},
        conversation_id=conversation_id,
        slug=None if slug is None else f"{slug}:task",
        requires_approval=True,
        # The message says it, and is what its sender signs.
        besides=True,
    )
    return str(task.id)
