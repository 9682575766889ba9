"""Tools to send messages, to read one's inbox, and to look back."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.mcp.door import Call
from federation.mcp.tools.arguments import NUMBER, ConversationId, MessageId, StatementSignature, StatementText, ToMessage, name, text
from federation.security.statements import Presented, presented
from federation.services import actions, history, inboxes
from federation.services.history import Page
from federation.services.inboxes import Inbox
from federation.services.messages import Sent
from federation.store.models.conversations import MessageType

Limit = Annotated[int, Field(ge=1, le=200, description="At most so many messages; fewer come where they are long, and `more` says so."), NUMBER]


async def federation_send(
    call: Call,
    content: Annotated[str, text("What you say.", examples=["The auth module leaks memory; who has seen the profile?"])],
    *,
    to: ToMessage = None,
    message_type: Annotated[
        MessageType | None,
        Field(
            description="chat, task, result or status; or, with `body`, finding, action, request, response. Omitted: chat, or response to a request."
        ),
    ] = None,
    conversation_id: ConversationId = None,
    reply_to: MessageId = None,
    body: Annotated[
        dict[str, Any] | None,
        Field(
            description="For programs. finding: category (observation, hypothesis, conclusion), confidence 0 to 1, evidence [{source, query, "
            "result}]. action: type (query, modify, notify, escalate), target, parameters, requires_approval. request: capability, parameters. "
            "response: status (success, failure), result.",
            examples=[{"category": "observation", "confidence": 0.9, "evidence": [{"source": "prometheus", "query": "rate(errors[5m])"}]}],
        ),
    ] = None,
    message_id: Annotated[
        str | None,
        name(
            "A name for this message that you choose. If the connection breaks before the answer, call again with the same name and the same "
            "content: the message is sent once. Unique among your messages of its conversation.",
            examples=["deploy-note-1"],
        ),
    ] = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> Sent:
    """Send a message to one agent, to a role, to any who can do something, to all members of a conversation, or, with neither `to` nor
    `conversation_id`, to everybody.

    It is stored for good and appears in the inbox of each recipient at once, also of those who are away now. Answers come to your own
    inbox: wait for them with federation_inbox(wait_s=60). With an agent in `to` alone the conversation is the private one of you two. Writing
    into a new conversation_id opens it, with you as its only member; naming an agent in `to` makes that agent a member. To have one answer to
    a question, and to wait for it, use federation_ask.
    """
    voice = signed_message(statement, signature, message_id)

    def work(session: Session) -> Sent:
        return actions.send(
            session, content, to=to, message_type=message_type, conversation_id=conversation_id, reply_to=reply_to, body=body, slug=message_id
        )

    return await call.transact(work, voice=voice)


def signed_message(statement: str | None, signature: str | None, message_id: str | None) -> Presented | None:
    """Return the statement that came with a message; None if none did. Raises InvalidInput, also for a message without a name."""
    voice = presented(statement, signature)
    if voice is not None and message_id is None:
        raise InvalidInput("message_id", None, "a name that you choose, because what you sign names the message by it")
    return voice


async def federation_inbox(
    call: Call,
    wait_s: Annotated[
        float, Field(ge=0, le=600, description="Seconds to wait for the first message if there is none, up to 600; 0 looks once."), NUMBER
    ] = 0,
    after: Annotated[
        int | None,
        Field(
            ge=0,
            lt=2**63,
            description="The cursor of your former call: what lies up to it counts as read from now on. Omitted: all that is unread.",
        ),
        NUMBER,
    ] = None,
    limit: Limit = 50,
) -> Inbox:
    """Read the messages sent to you that you have not read, oldest first; with `wait_s` wait for the first to arrive.

    Pass the returned `cursor` as `after` in the next call: federation_inbox(after=cursor, wait_s=60) marks what you have got as read and
    waits for more. If you fail in between, call without `after` and you get them again. Waiting costs nothing; prefer it to calling
    often. An empty `messages` after the wait means that nothing came.
    """

    looked = False

    def look(session: Session) -> Inbox | None:
        nonlocal looked
        found = inboxes.inbox(session, after=after, limit=limit, again=looked)
        looked = True
        return found if found.messages else None

    if wait_s > 0:
        arrived = await call.until(look, wait_s=wait_s, notices=[f"inbox:{call.caller.name}"], waiting="waiting for a message")
        if arrived is not None:
            return arrived
    return await call.transact(lambda session: inboxes.inbox(session, after=after, limit=limit))


async def federation_history(
    call: Call,
    conversation_id: Annotated[
        str, name("The conversation: commons is everybody's; `direct:ada:bob` is that of ada and bob, names in order.", examples=["project-123"])
    ],
    *,
    after: Annotated[int | None, Field(ge=0, lt=2**63, description="Only what lies behind this position, the oldest first."), NUMBER] = None,
    before: Annotated[int | None, Field(ge=1, lt=2**63, description="Only what lies before this position: leads back."), NUMBER] = None,
    thread: Annotated[UUID | None, Field(description="Only the exchange that this message began: `thread` of a message here.")] = None,
    limit: Limit = 20,
) -> Page:
    """Look back at what was said in a conversation of yours: the latest messages, or a page behind or before a position.

    Of your own messages it says who has read them. It marks nothing as read.
    """

    def work(session: Session) -> Page:
        return history.page(session, conversation_id, after=after, before=before, thread=thread, limit=limit)

    return await call.transact(work)
