"""Tools to ask, and to wait for the answer."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.tools.arguments import NUMBER, ConversationId, StatementSignature, StatementText, ToMessage, name, text
from federation.mcp.tools.messages import signed_message
from federation.services import messages, requests
from federation.services.requests import Answer
from federation.store.models.conversations import MessageType

AnswerWaitS = Annotated[float, Field(ge=0, le=600, description="Seconds to wait for the answer, up to 600; 0 looks once."), NUMBER]


class AskState(StrEnum):
    """Where a request stands."""

    ANSWERED = "answered"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and its answer or whose answer it awaits."""

    request_id: Annotated[UUID, Field(description="The handle: federation_ask_result(request_id, wait_s=60) reads the answer later.")]
    state: AskState
    answer: Annotated[Answer | None, Field(description="The first success, or the last failure when all who were asked failed.")]
    waiting_for: Annotated[str | None, Field(description="Whose answer it awaits, or that nobody can give it yet.")]


async def federation_ask(
    call: Call,
    content: Annotated[str, text("What you ask.", examples=["What is the error rate since 10:15?"])],
    *,
    to: ToMessage = None,
    parameters: Annotated[dict[str, Any] | None, Field(description="What you ask, for programs.", examples=[{"service": "auth"}])] = None,
    conversation_id: ConversationId = None,
    message_id: Annotated[str | None, name("As in federation_send: asked again under the same name, it is the same request.")] = None,
    wait_s: AnswerWaitS = 60,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> Asked:
    """Ask somebody, a role, or any who can do something, and wait for the one answer: the first success of whoever was asked.

    If it is late you get a `request_id` for federation_ask_result; the answer also comes to your inbox. A request that nobody can answer yet waits
    for who can. To answer one that is in your inbox: federation_send(content, reply_to=its message_id); if you cannot, with
    message_type='response', body={'status': 'failure'}.
    """
    voice = signed_message(statement, signature, message_id)
    body = {"parameters": parameters} if parameters else {}

    def ask(session: Session) -> messages.Sent:
        return messages.send(session, content, to=to, message_type=MessageType.REQUEST, conversation_id=conversation_id, body=body, slug=message_id)

    return await _answered(call, (await call.transact(ask, voice=voice)).message_id, wait_s)


async def federation_ask_result(
    call: Call,
    request_id: Annotated[UUID, Field(description="What federation_ask returned.", examples=["0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a11"])],
    wait_s: AnswerWaitS = 60,
) -> Asked:
    """Read the answer to a request of yours, or wait for it; it stays readable."""
    return await _answered(call, request_id, wait_s)


async def _answered(call: Call, request_id: UUID, wait_s: float) -> Asked:
    def look(session: Session) -> Answer | None:
        return requests.answer(session, request_id)

    answer = await call.until(look, wait_s=wait_s, notices=[f"inbox:{call.caller.name}"], waiting="waiting for the answer")
    if answer is not None:
        return Asked(request_id, AskState.ANSWERED, answer, None)
    return Asked(request_id, AskState.WAITING, None, await call.transact(lambda session: requests.waits_for(session, request_id)))
