"""Requests: questions with one answer, the first success of whoever was asked; or, when all of them failed, their failures."""

import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Uuid, cast, exists, func, or_, select
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import audiences, capabilities, conversations, inboxes, statements
from federation.services.inboxes import SignedBySender
from federation.store import event_log
from federation.store.context import context
from federation.store.models.conversations import Member, Message, MessageType, Receipt
from federation.store.models.tasks import AgentTask, TaskStatus

SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    message_id: uuid.UUID
    status: Annotated[str, Field(description="success, or failure of all who were asked.")]
    sender: str
    content: str
    result: dict[str, Any] | None
    signed: SignedBySender = None


def kind_of_answer(session: Session, answered: Message | None) -> MessageType:
    """Return what an answer is that does not say it: to a request that was put to the caller, the first time, a response."""
    if answered is None or answered.message_type != MessageType.REQUEST or not _was_asked(session, answered):
        return MessageType.CHAT
    spoke = exists().where(Message.reply_to == answered.id, Message.message_type == MessageType.RESPONSE, Message.sender == context(session).actor)
    return MessageType.CHAT if session.scalar(select(spoke)) else MessageType.RESPONSE


def answerable(session: Session, answered: Message | None) -> Message:
    """Return a request that the caller may answer.

    Raises InvalidInput for what is no request, Refused for one that was not put to him, Conflict for one that is answered.
    """
    if answered is None:
        raise InvalidInput("reply_to", None, "the message_id of the request that this response answers")
    if answered.message_type != MessageType.REQUEST:
        raise InvalidInput("reply_to", str(answered.id), f"a request, and this is a {answered.message_type}; answer it with another message_type")
    if not _was_asked(session, answered):
        whom = answered.recipient or answered.audience or "others"
        raise Refused("A request is answered by whom it was put to:", f"this one was put to {whom}; say what you know with message_type='chat'.")
    # One's own may be repeated under its name.
    if (first := _answered_by(session, answered.id)) not in {None, context(session).actor}:
        raise _late(answered.id, first)
    return answered


def _was_asked(session: Session, request: Message) -> bool:
    actor = context(session).actor
    if request.sender == actor and request.recipient != actor:
        return False
    return bool(session.scalar(select(exists().where(Receipt.message_id == request.id, Receipt.agent == actor))))


def beaten(session: Session, request_id: uuid.UUID) -> Conflict:
    """Return what somebody is told whose answer was not the first."""
    first = _answered_by(session, request_id)
    if first in {None, context(session).actor}:
        return Conflict(f"you answered request {request_id} before; say more with message_type='chat'")
    return _late(request_id, first)


def _late(request_id: uuid.UUID, first: str | None) -> Conflict:
    return Conflict(f"{first} has answered request {request_id}; nothing more is asked of you")


def _answered_by(session: Session, request_id: uuid.UUID) -> str | None:
    # Past the policies: the answer itself is for who asked.
    return session.scalar(select(func.federation_answered_by(request_id)))


def _success(session: Session, request_id: uuid.UUID) -> Message | None:
    return session.scalars(
        select(Message).where(Message.reply_to == request_id, Message.message_type == MessageType.RESPONSE, Message.data["status"].astext == SUCCESS)
    ).one_or_none()


def own(session: Session, request_id: uuid.UUID) -> Message:
    """Return a request of the caller's. Raises NotFound."""
    request = session.get(Message, request_id)
    if request is None or request.message_type != MessageType.REQUEST or request.sender != context(session).actor:
        raise NotFound("request", str(request_id))
    return request


def answer(session: Session, request_id: uuid.UUID) -> Answer | None:
    """Return what came of a request of the caller's, which then counts as read; None while nobody has answered. Raises NotFound."""
    own(session, request_id)
    found = _success(session, request_id)
    if found is None:
        failures = session.scalars(
            select(Message).where(Message.reply_to == request_id, Message.message_type == MessageType.RESPONSE).order_by(Message.position.desc())
        ).all()
        asked = session.scalar(select(func.count()).where(Receipt.message_id == request_id)) or 0
        if not failures or len(failures) < asked:
            return None
        found = failures[0]
    inboxes.read_out_of_turn(session, found.id)
    data = found.data or {}
    signed = statements.of_messages(session, [found]).get(found.id)
    return Answer(found.id, data.get("status", SUCCESS), found.sender, found.content, data.get("result"), signed)


def waits_for(session: Session, request_id: uuid.UUID) -> str:
    """Return in words whose answer a request of the caller's awaits. Raises NotFound."""
    request = own(session, request_id)
    spoken = select(Message.sender).where(Message.reply_to == request_id, Message.message_type == MessageType.RESPONSE)
    silent = session.scalars(
        select(Receipt.agent).where(Receipt.message_id == request_id, Receipt.agent.not_in(spoken)).order_by(Receipt.agent)
    ).all()
    if silent:
        return f"the answer of {' or '.join(silent[:5])}{f' or {len(silent) - 5} more' if len(silent) > 5 else ''}"
    if request.audience is None:
        return "an answer, and nobody else is in the conversation"
    return audiences.lacking(request.audience, request.conversation_id, waits=True)


def hand_on(session: Session, agent: str) -> None:
    """Put into an agent's inbox what it can do now: open requests and tasks for what it can, in its conversations, that it does not have."""
    able = [audiences.CAPABILITY + name for name in capabilities.of(session, agent)]
    if not able:
        return
    theirs = select(Member.conversation_id).where(Member.agent == agent)
    unanswered = (Message.message_type == MessageType.REQUEST) & func.federation_answered_by(Message.id).is_(None)
    told_of = AgentTask.id == cast(Message.data["task_id"].astext, Uuid)
    untaken = (Message.message_type == MessageType.TASK) & exists().where(told_of, AgentTask.status == TaskStatus.PENDING)
    missed = session.scalars(
        select(Message.id)
        .where(
            Message.audience.in_(able),
            unanswered | untaken,
            Message.sender != agent,
            or_(Message.conversation_id == conversations.COMMONS, Message.conversation_id.in_(theirs)),
            ~exists().where(Receipt.message_id == Message.id, Receipt.agent == agent),
        )
        .order_by(Message.created_at, Message.id)
    ).all()
    if missed:
        # In the stream of who brings him in.
        event_log.append(session, "message.handed_on", f"agent:{context(session).actor}", payload={"agent": agent, "message_ids": missed})
        inboxes.put_into(session, [(agent, identity) for identity in missed])
