"""Feeds: inboxes, and what is said to everybody, for those who speak STOMP; says what is to be copied where, and copies nothing itself.

An agent that is fed may also speak so. Who is, an operator says, and the STOMP door looks here for it (docs/adr/0027-stomp-door.md).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import InvalidInput, NotFound
from federation.services import agents, conversations, statements
from federation.store import event_log
from federation.store.context import context, notify
from federation.store.models.conversations import Message, MessageType, Receipt
from federation.store.models.feeds import Feed

BROADCAST = "/topic/federation.broadcast"
# Each agent's own, which the STOMP door lets that agent alone write to.
FROM = "/queue/federation.from."
NOTICE = "feeds"
SHORTEST_S, LONGEST_S, USUAL_S = 1.0, 30 * 86_400.0, 3600.0


@dataclass(frozen=True, slots=True)
class FeedView:
    """A destination that is fed, and how far."""

    destination: str
    agent: str | None
    position: int
    expires_s: float
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Copy:
    """A message as it is copied: its place in the inbox, or in the commons, and what it says, as JSON has it."""

    position: int
    message: dict[str, Any]


def queue_of(agent: str) -> str:
    """Return the queue that an agent is fed through. Raises InvalidInput for a name that is not one level of a destination."""
    if not re.fullmatch("[A-Za-z0-9_-]+", agent):
        raise InvalidInput("name", agent, "for STOMP a name of letters, digits, _ and - alone")
    return f"/queue/federation.{agent}"


def begin(session: Session, agent: str | None, *, expires_s: float = USUAL_S) -> FeedView:
    """Feed an agent from its first unread message on, or the broadcast from now on; begun again it takes the new time to expire.

    Raises NotFound, InvalidInput.
    """
    if not SHORTEST_S <= expires_s <= LONGEST_S:
        raise InvalidInput("expires_s", expires_s, f"{SHORTEST_S:g} to {LONGEST_S:g} seconds")
    if agent is not None:
        agents.get(session, agent)
    destination = BROADCAST if agent is None else queue_of(agent)
    row = {"agent": agent, "expires_s": expires_s, "created_by": context(session).actor, "updated_by": context(session).actor}
    statement = insert(Feed).values(destination=destination, position=_start(session, agent), **row)
    session.execute(statement.on_conflict_do_update(index_elements=["destination"], set_=row))
    told = {"destination": destination, "agent": agent, "expires_s": expires_s}
    event_log.append(session, "feed.began", f"feed:{destination}", payload=told)
    notify(session, [NOTICE])
    [found] = [feed for feed in everybody(session) if feed.destination == destination]
    return found


def _start(session: Session, agent: str | None) -> int:
    if agent is None:
        last = select(func.max(Message.position)).where(Message.conversation_id == conversations.COMMONS)
        return session.scalar(last) or 0
    unread = session.scalar(select(func.min(Receipt.position) - 1).where(Receipt.agent == agent, Receipt.read_at.is_(None)))
    return unread if unread is not None else session.scalar(select(func.max(Receipt.position)).where(Receipt.agent == agent)) or 0


def end(session: Session, agent: str | None) -> None:
    """Feed an agent, or the broadcast, no more; the agent cannot speak so any more either. Raises NotFound where it is not fed."""
    destination = BROADCAST if agent is None else queue_of(agent)
    if session.scalar(delete(Feed).where(Feed.destination == destination).returning(Feed.destination)) is None:
        raise NotFound("feed", agent or "broadcast", [feed.agent or "broadcast" for feed in everybody(session)])
    event_log.append(session, "feed.ended", f"feed:{destination}", payload={"destination": destination})
    notify(session, [NOTICE])


def everybody(session: Session) -> list[FeedView]:
    """Return all feeds, in order of destination."""
    columns = (Feed.destination, Feed.agent, Feed.position, Feed.expires_s, Feed.created_by, Feed.created_at)
    return [FeedView(*row) for row in session.execute(select(*columns).order_by(Feed.destination))]


def speakers(connection: Connection) -> dict[str, float]:
    """Return the agents that may speak over STOMP, each with the seconds after which what it is told expires."""
    found = connection.execute(select(Feed.agent, Feed.expires_s).where(Feed.agent.is_not(None)))
    return {agent: expires_s for agent, expires_s in found if agent is not None}


def waiting(session: Session, feed: FeedView, *, limit: int) -> list[Copy]:
    """Return what is to be copied next, in order."""
    if feed.agent is None:
        query = (
            select(Message.position, Message)
            .where(Message.conversation_id == conversations.COMMONS, Message.position > feed.position)
            .where(Message.recipient.is_(None), Message.audience.is_(None))
            .order_by(Message.position)
        )
    else:
        query = (
            select(Receipt.position, Message)
            .join(Message, Message.id == Receipt.message_id)
            .where(Receipt.agent == feed.agent, Receipt.position > feed.position)
            .order_by(Receipt.position)
        )
    found = session.execute(query.limit(limit)).all()
    signed = statements.of_messages(session, [message for _, message in found])
    return [Copy(position, told(message, cursor=position if feed.agent else None, signed=signed.get(message.id))) for position, message in found]


def advance(session: Session, feed: FeedView, copies: Sequence[Copy]) -> None:
    """Note that these were copied."""
    if copies:
        session.execute(update(Feed).where(Feed.destination == feed.destination).values(position=copies[-1].position))


def told(message: Message, *, cursor: int | None, signed: bool | None) -> dict[str, Any]:
    """Return a message in the form of the coordination patterns' «Standard agent message», with what it has here besides."""
    found: dict[str, Any] = {
        "id": str(message.id),
        "timestamp": message.created_at.isoformat(),
        "source": {"agent": message.sender},
        "type": message.message_type,
        "content": message.content,
        "to": message.recipient or message.audience,
        "conversation_id": message.conversation_id,
        "position": message.position,
        "thread": str(message.correlation_id),
        "reply_to": message.reply_to and str(message.reply_to),
        "cursor": cursor,
        # As in an inbox.
        "signed": signed or None,
    }
    data = message.data
    if data is not None and "source_session" in data:
        found["source"]["session"] = data["source_session"]
        data = {name: value for name, value in data.items() if name != "source_session"} or None
    if message.message_type == MessageType.FINDING:
        data = {**(data or {}), "content": message.content}
    elif message.message_type == MessageType.RESPONSE:
        data = {**(data or {}), "request_id": found["reply_to"]}
    if data is not None:
        found[message.message_type] = data
    return {name: value for name, value in found.items() if value is not None}
