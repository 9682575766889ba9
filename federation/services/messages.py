"""Messages: sent to one, to an audience or to all members of a conversation, in one transaction."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, NotFound
from federation.services import agents, audiences, conversations, envelopes, inboxes, limits, requests, statements
from federation.services.audiences import Address
from federation.services.names import valid_slug
from federation.store import event_log
from federation.store.context import context
from federation.store.fixed_ids import named_id
from federation.store.models.conversations import Message, MessageType, Receipt

# The digest as PostgreSQL writes it, so that replay can compare it. The position is taken before it is known whether the message is new.
_RECORD = text(
    """
    WITH next AS MATERIALIZED (SELECT federation_next_position(:stream) AS position)
    INSERT INTO messages
        (id, conversation_id, position, sender, recipient, audience, message_type, content, data, correlation_id, reply_to, trace_id)
    SELECT
        CAST(:id AS uuid), :conversation_id, next.position, :sender, :recipient, :audience, :message_type, :content, CAST(:data AS jsonb),
        CAST(:correlation_id AS uuid), CAST(:reply_to AS uuid), :trace_id
    FROM next ON CONFLICT DO NOTHING
    RETURNING position, created_at, encode(sha256(convert_to(data::text, 'UTF8')), 'hex')
    """
)
# The same, of a message that all members may read, which counts towards the next summary.
_RECORD_FOR_ALL = text(
    f"""
    WITH made AS ({_RECORD.text}),
    counted AS (
        UPDATE conversations SET unsummarised = unsummarised + 1, updated_by = :sender
        WHERE id = :conversation_id AND EXISTS (SELECT FROM made)
    )
    SELECT * FROM made
    """  # noqa: S608 - it is ours
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is recorded for all its recipients."""

    message_id: uuid.UUID
    conversation_id: str
    position: Annotated[int, Field(description="Its place in the conversation, counted from 1 without gaps.")]
    correlation_id: Annotated[uuid.UUID, Field(description="The message that began this exchange of questions and answers.")]
    recipients: Annotated[Sequence[str], Field(description="Names of the agents in whose inboxes it is; empty: nobody else is there yet.")]
    created_at: datetime
    waiting_for: Annotated[str | None, Field(description="Who is missing, where nobody of the role, or who can do it, is there.")]
    warning: Annotated[str | None, Field(description="That you brought in more than the charter wants in one conversation.")] = None


def send(
    session: Session,
    content: str | None,
    *,
    to: str | None = None,
    message_type: str | None = None,
    conversation_id: str | None = None,
    reply_to: uuid.UUID | None = None,
    body: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    slug: str | None = None,
    counted: bool = True,
) -> Sent:
    """Send a message to one agent, to an audience, or to all members of a conversation (without one: to everybody).

    A typed message says what its `body` says, and needs no content besides; `data` is what the program adds to one of its own. Sent again under
    the same `slug` it is the message that was sent before. One that is not `counted` is the program's: it takes nothing of what its sender may
    send in a minute, and he states nothing.
    Raises NotFound for an unknown agent, role, conversation or message, Refused for a stranger to the conversation, or to a request that he
    answers, Conflict for a slug under which the sender said something else and for a request that is answered, InvalidInput, RateLimited.
    """
    sender = context(session).actor
    if message_type not in {None, *MessageType}:
        raise InvalidInput("message_type", message_type, "one of " + ", ".join(MessageType))
    envelope = envelopes.read(MessageType(message_type), body) if message_type else None
    if body is not None and message_type is None:
        raise InvalidInput("body", body, f"a message_type that has one: {', '.join(envelopes.BODIES)}")
    if envelope is not None:
        to, reply_to = _same("to", to, envelope.to), _same("request_id", reply_to, envelope.reply_to)
        content = _same("content", content, envelope.content) or envelope.words
    agents.require(content, "content")
    assert content is not None
    answered = None if reply_to is None else readable(session, reply_to)
    kind = MessageType(message_type) if message_type else _kind(session, answered, slug)
    if kind is MessageType.RESPONSE:
        envelope = envelope or envelopes.read(kind, None)
        answered = requests.answerable(session, answered)
    if to is not None and conversation_id is None and answered is None and conversations.is_open_with(session, to):
        # Most that is said: who is a member there is an agent, and nothing else is left to ask.
        address, conversation_id, joined = Address(to), conversations.direct(sender, to), list[str]()
    else:
        address = _address(session, to, answered, envelope, kind)
        if conversation_id is None:
            with_one = address.agent and conversations.direct(sender, address.agent)
            conversation_id = answered.conversation_id if answered else with_one or conversations.COMMONS
        joined = conversations.open_for(session, conversation_id, [address.agent] if address.agent else [])
    if answered is not None and answered.conversation_id != conversation_id:
        raise InvalidInput("reply_to", str(reply_to), f"a message of conversation {conversation_id}")

    identity = uuid.uuid4() if slug is None else _identity(conversation_id, sender, valid_slug("message_id", slug))
    said = {
        "conversation_id": conversation_id,
        "sender": sender,
        "recipient": address.agent,
        "audience": address.audience,
        "message_type": kind,
        "content": content,
        "data": {**(envelope.data if envelope else {}), **(data or {})} if envelope is not None or data is not None else None,
        "reply_to": reply_to,
    }
    recipients = audiences.readers(session, address, conversation_id=conversation_id, sender=sender)
    # What its event tells, and what its sender states: not what was said, because the log may be read by more than the members.
    told = {
        "to": address.agent,
        "audience": address.audience,
        "message_type": kind,
        "reply_to": None if reply_to is None else str(reply_to),
        "content_sha256": hashlib.sha256(content.encode()).hexdigest(),
        "body_sha256": None if envelope is None else statements.hashed(envelope.data, called="body"),
    }
    subject, about = f"message:{identity}", {"conversation_id": conversation_id, **told}
    # An execution states nothing, as elsewhere.
    states = counted and context(session).execution_id is None
    heard = statements.say(session, action="message.send", choice="send", subject=subject, content=about) if states else None
    thread = answered.correlation_id if answered else identity
    # One without a name is new, unless it is an answer that comes too late.
    may_be_there = slug is not None or kind is MessageType.RESPONSE
    recorded = _record(session, identity, said, told, recipients, correlation_id=thread, counted=counted, may_be_there=may_be_there)
    if recorded is None:
        return _sent_before(session, identity, slug or "", said)
    if heard is not None and not heard.again:
        statements.keep(session, heard, conversation_id=conversation_id)
    position, created_at = recorded
    inboxes.put_into(session, [(name, identity) for name in recipients])
    if address.agent is not None and conversation_id != conversations.COMMONS and not conversations.is_direct(conversation_id):
        # Who was brought in just now may be whom a request waits for; in the commons all are.
        requests.hand_on(session, address.agent)
    lacking = None
    if address.audience is not None and not recipients:
        lacking = audiences.lacking(address.audience, conversation_id, waits=kind is MessageType.REQUEST)
    warning = conversations.crowded(session, conversation_id, before=0) if joined else None
    return Sent(identity, conversation_id, position, thread, recipients, created_at, lacking, warning)


def _kind(session: Session, answered: Message | None, slug: str | None) -> MessageType:
    """Return what a message is that does not say it: what it was when it was sent before, else what an answer is to what it answers."""
    if answered is not None and slug is not None:
        former = session.get(Message, _identity(answered.conversation_id, context(session).actor, valid_slug("message_id", slug)))
        if former is not None:
            return MessageType(former.message_type)
    return requests.kind_of_answer(session, answered)


def _same(field: str, given: Any, in_body: Any) -> Any:
    """Return what is said once or twice. Raises InvalidInput if it is not the same."""
    if given is not None and in_body is not None and given != in_body:
        raise InvalidInput(f"body.{field}", str(in_body), f"{given}, as the call says, or nothing")
    return given if given is not None else in_body


def _address(session: Session, to: str | None, answered: Message | None, envelope: envelopes.Envelope | None, kind: MessageType) -> Address:
    capability = envelope.capability if envelope else None
    if to is not None or capability is not None or answered is None:
        return audiences.parse(session, to, capability=capability)
    if answered.sender != context(session).actor:
        # What was said to one or to some is answered to one, and so is what was asked.
        private = answered.recipient is not None or answered.audience is not None or kind is MessageType.RESPONSE
        return Address(agent=answered.sender) if private else Address()
    return Address(answered.recipient, answered.audience)


def _record(
    session: Session,
    identity: uuid.UUID,
    said: Mapping[str, Any],
    told: Mapping[str, Any],
    recipients: Sequence[str],
    *,
    correlation_id: uuid.UUID,
    counted: bool,
    may_be_there: bool,
) -> tuple[int, datetime] | None:
    """Count the message, and write it and its event; return position and time, or None where there is one already that leaves no room for it."""
    # What is taken for a message that is there already is given back.
    attempt = event_log.attempt(session) if may_be_there else None
    if counted:
        limits.message(session)
    conversation_id, data = said["conversation_id"], said["data"]
    stream = f"messages:{conversation_id}"
    row = {"id": identity, "stream": stream, **said, "correlation_id": correlation_id, "trace_id": context(session).trace_id}
    for_all = (said["recipient"] is None and said["audience"] is None) or conversations.is_direct(conversation_id)
    found = session.execute(_RECORD_FOR_ALL if for_all else _RECORD, row | {"data": None if data is None else json.dumps(data)}).one_or_none()
    if attempt is not None and found is None:
        attempt.rollback()
    if found is None:
        return None
    if attempt is not None:
        attempt.commit()
    position, created_at, digest = found
    payload = {**told, "message_id": identity, "recipients": recipients, "correlation_id": correlation_id, "data_sha256": digest}
    event_log.append(session, "message.sent", stream, payload=payload, conversation_id=conversation_id, position=position)
    return position, created_at


def _identity(conversation_id: str, sender: str, slug: str) -> uuid.UUID:
    return named_id("message", conversation_id, sender, slug)


def _sent_before(session: Session, identity: uuid.UUID, slug: str, said: Mapping[str, Any]) -> Sent:
    """Return what was sent under this slug. Raises Conflict if it was something else, or if what was sent now is an answer that came too late."""
    former = session.get(Message, identity)
    if former is None and said["message_type"] is not MessageType.RESPONSE:
        raise event_log.occupied(f"at the next position of conversation {said['conversation_id']}")
    if former is None:
        raise requests.beaten(session, said["reply_to"])
    others = [name for name, value in said.items() if getattr(former, name) != value]
    if others:
        raise Conflict(
            f"you sent another message as {slug!r} in {former.conversation_id} ({', '.join(others)} differ); "
            "choose another message_id, or repeat the call as it was"
        )
    recipients = session.scalars(select(Receipt.agent).where(Receipt.message_id == identity).order_by(Receipt.agent))
    return Sent(identity, former.conversation_id, former.position, former.correlation_id, list(recipients), former.created_at, None)


def readable(session: Session, message_id: uuid.UUID) -> Message:
    """Return a message that the caller may read. Raises NotFound."""
    found = session.get(Message, message_id)
    if found is None:
        raise NotFound("message", str(message_id))
    conversations.require_member(session, found.conversation_id)
    if not audiences.may_read(session, found):
        raise NotFound("message", str(message_id))
    return found
