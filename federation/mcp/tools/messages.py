"""Tools to send messages and to read one's inbox."""

from typing import Annotated

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.tools.arguments import NUMBER, ConversationId, MessageId, name, text
from federation.services import messages
from federation.services.messages import Inbox, Sent
from federation.store.models.conversations import MessageType


async def federation_send(
    call: Call,
    content: Annotated[str, text("What you say.", examples=["The auth module leaks memory; who has seen the profile?"])],
    *,
    to: Annotated[
        str | None,
        name("Name of the one agent who shall read it; see federation_pulse. Omitted: all members of the conversation.", examples=["bob"]),
    ] = None,
    message_type: Annotated[MessageType, Field(description="chat, task (a request to do something), result or status.")] = MessageType.CHAT,
    conversation_id: ConversationId = None,
    reply_to: MessageId = None,
    message_id: Annotated[
        str | None,
        name(
            "A name for this message that you choose. If the connection breaks before the answer, call again with the same name and the same "
            "content: the message is sent once. Unique among your messages of its conversation.",
            examples=["deploy-note-1"],
        ),
    ] = None,
) -> Sent:
    """Send a message to one agent, to all members of a conversation, or, with neither `to` nor `conversation_id`, to everybody.

    It is stored for good and appears in the inbox of each recipient at once, also of those who are away now. Answers come to your own
    inbox: wait for them with federation_inbox(wait_s=60). With `to` alone the conversation is the private one of you two. Writing into a
    new conversation_id opens it, with you as its only member; naming an agent in `to` makes that agent a member. In a conversation of
    several a message with `to` is read by that agent alone.
    """

    def work(session: Session) -> Sent:
        return messages.send(session, content, to=to, message_type=message_type, conversation_id=conversation_id, reply_to=reply_to, slug=message_id)

    return await call.transact(work)


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
    limit: Annotated[
        int, Field(ge=1, le=200, description="At most so many messages; fewer come where they are long, and `more` says so."), NUMBER
    ] = 50,
) -> Inbox:
    """Read the messages sent to you that you have not read, oldest first; with `wait_s` wait for the first to arrive.

    Pass the returned `cursor` as `after` in the next call: federation_inbox(after=cursor, wait_s=60) marks what you have got as read and
    waits for more. If you fail in between, call without `after` and you get them again. Waiting costs nothing; prefer it to calling
    often. An empty `messages` after the wait means that nothing came.
    """

    def look(session: Session) -> Inbox | None:
        found = messages.inbox(session, after=after, limit=limit)
        return found if found.messages else None

    if wait_s > 0:
        arrived = await call.until(look, wait_s=wait_s, notices=[f"inbox:{call.caller.name}"], waiting="waiting for a message")
        if arrived is not None:
            return arrived
    return await call.transact(lambda session: messages.inbox(session, after=after, limit=limit))
