"""Tools to send messages and to read one's inbox."""

from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.tools.arguments import ConversationId, WaitS
from federation.services import messages
from federation.services.messages import Inbox, Sent
from federation.store.models.conversations import MessageType


async def federation_send(
    call: Call,
    content: Annotated[str, Field(description="What you say.")],
    *,
    to: Annotated[str | None, Field(description="Name of the one agent who shall read it. Omitted: all members of the conversation.")] = None,
    message_type: Annotated[MessageType, Field(description="chat, task (a request to do something), result or status.")] = MessageType.CHAT,
    conversation_id: ConversationId = None,
    reply_to: Annotated[UUID | None, Field(description="message_id of the message that you answer; the answer goes into its conversation.")] = None,
) -> Sent:
    """Send a message to one agent, to all members of a conversation, or, with neither `to` nor `conversation_id`, to everybody.

    It is stored for good and appears in the inbox of each recipient at once, also of those who are away now. Writing into a new
    conversation_id opens it; naming an agent in `to` makes that agent a member.
    """

    def work(session: Session) -> Sent:
        return messages.send(session, content, to=to, message_type=message_type, conversation_id=conversation_id, reply_to=reply_to)

    return await call.transact(work)


async def federation_inbox(
    call: Call,
    wait_s: WaitS = 0,
    after: Annotated[
        int | None,
        Field(
            ge=0,
            description="The cursor of your former call: what lies up to it counts as read from now on. Omitted: all that is unread.",
        ),
    ] = None,
    limit: Annotated[int, Field(ge=1, le=200, description="At most so many messages.")] = 50,
) -> Inbox:
    """Read the messages sent to you that you have not read, oldest first; with `wait_s` wait for the first to arrive.

    Pass the returned `cursor` as `after` in the next call. If you fail in between, call without `after` and you get them again.
    """

    def look(session: Session) -> Inbox | None:
        found = messages.inbox(session, after=after, limit=limit)
        return found if found.messages else None

    if wait_s > 0:
        arrived = await call.until(look, wait_s=wait_s, notices=[f"inbox:{call.caller.name}"], waiting="waiting for a message")
        if arrived is not None:
            return arrived
    return await call.transact(lambda session: messages.inbox(session, after=after, limit=limit))
