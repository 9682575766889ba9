"""What somebody states about a subject, signed by himself or attested by the part that knew his token; refuses what is not what it should be.

A verb says it (`say`), which looks at the signature and records nothing; then does what it does; then keeps it (`keep`). Where nothing is done
because it was done before, nothing is kept, unless it is the signed contrary of what its author signed before (`keep_contrary`). What has no
contrary is said and kept at once (`make`).
"""

import base64
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, aliased

from federation.errors import Equivocation, InvalidInput, Refused
from federation.security.signing import PublicKey, parse_public
from federation.security.statements import (
    SAME,
    Draft,
    Mode,
    NotAStatement,
    Presented,
    Signatory,
    SignatureWanted,
    Signed,
    Statement,
    Voice,
    content_sha256,
    nonce,
    parse,
)
from federation.services import agent_keys, charter
from federation.store import event_log
from federation.store.context import context
from federation.store.models.conversations import Message
from federation.store.models.signers import Signer
from federation.store.models.statements import AgentKey, SignedStatement

# By so much the clock of who signs may differ from PostgreSQL's; so long may a statement be on its way.
FRESH = timedelta(minutes=10)
_VOICE, _PART = "voice", "part's voice"
# Of the tools that do what the charter may demand a signature for, those that take one.
_SIGNED_WITH = {
    "task.decide": "federation_approve",
    "task.complete": "federation_complete_task",
    "consensus.vote": "federation_consensus_respond",
}


@dataclass(frozen=True, slots=True)
class Heard:
    """A statement whose signature holds and that says what is being done; `brought`: not signed just now; `again`: it is recorded already."""

    statement: Statement
    signed: Signed
    brought: bool
    again: bool


@dataclass(frozen=True, slots=True)
class StatementView:
    """A recorded statement."""

    digest: str
    subject: str
    actor: str
    action: str
    choice: str
    mode: str
    attested_by: str | None
    key: str
    statement: str
    signature: bytes
    created_at: datetime


_COLUMNS = [getattr(SignedStatement, field.name) for field in fields(StatementView)]
_KEEP = text(
    """
    INSERT INTO statements (digest, subject, actor, action, choice, mode, attested_by, key, nonce, statement, signature)
    VALUES (:digest, :subject, :actor, :action, :choice, :mode, :attested_by, :key, :nonce, :statement, :signature)
    ON CONFLICT DO NOTHING RETURNING digest
    """
)


def give_voice(session: Session, voice: Voice | None, *, part: Voice | None = None) -> None:
    """Say who signs in this transaction, and which part of the federation it is of."""
    session.info[_VOICE], session.info[_PART] = voice, part


def is_brought(session: Session) -> bool:
    """Return whether the caller has signed already what he states in this transaction."""
    return isinstance(session.info.get(_VOICE), Presented)


def say(
    session: Session,
    *,
    action: str,
    choice: str,
    subject: str,
    content: Mapping[str, Any],
    demanded: Mode = Mode.ATTESTED,
    besides: bool = False,
    proposal: Mapping[str, Any] | None = None,
) -> Heard | None:
    """Have the caller state this, and look at what was signed; records nothing. None in a transaction without a voice.

    Who signs what he is asked to is shown the `proposal` that he votes on.
    What he states `besides` something else is attested where he has brought a signature, because that is of the other. Raises Refused for what is
    no statement of this by the caller, for a key that is unknown, revoked or another's, for one that is out of date, and for one that is
    attested where a signature is `demanded`; SignatureWanted where he signs what he is asked to, and has not signed this.
    """
    by_caller = isinstance(session.info.get(_VOICE), Presented | Signatory)
    voice: Voice | None = session.info.get(_PART if besides and by_caller else _VOICE)
    actor = context(session).actor
    if voice is None:
        _require_mode(None, demanded, actor=actor, action=action)
        return None
    now = context(session).now()
    draft = Draft(actor, action, choice, subject, hashed(content), now.isoformat(), nonce())
    if isinstance(voice, Signatory) and not voice.has_signed(draft):
        raise SignatureWanted(draft, content, proposal)
    signed = voice.speak(draft)
    by_caller = isinstance(voice, Presented | Signatory)
    said = _understood(signed, draft, by_others=not by_caller)
    # With the key of what was signed just now it is written, or not.
    if signed.said is None:
        _require_key(session, said, signed, offered=voice.key if isinstance(voice, Signatory) else None)
    _require_mode(said.mode, demanded, actor=actor, action=action)
    # What was signed just now is new.
    again = by_caller and session.scalar(select(SignedStatement.digest).where(SignedStatement.digest == signed.digest)) is not None
    if not again and abs(said.moment - now) > FRESH:
        raise _refused(f"this one was signed at {said.at}, and it is {now.isoformat(timespec='seconds')}: set the clock, or sign it anew.")
    return Heard(said, signed, by_caller, again)


def hashed(content: Mapping[str, Any], *, called: str | None = None) -> str:
    """Return what a statement says of its content, or of what is `called` so in it. Raises InvalidInput for what nobody could sign."""
    try:
        return content_sha256(content)
    except ValueError as error:
        wants = "JSON that can be signed: write whole numbers of 2**53 (9007199254740992) and more as text"
        raise InvalidInput(called or ", ".join(content), str(error), wants) from error


def _understood(signed: Signed, draft: Draft, *, by_others: bool) -> Statement:
    try:
        said = signed.said or parse(signed.text)
    except NotAStatement as error:
        raise _refused(f"this is none, because {error}.") from error
    for name in SAME:
        told, done = getattr(said, name), getattr(draft, name)
        if told != done:
            raise _refused(f"this one has {name} {told!r}, and what is asked for has {str(done)!r}: sign that.")
    if said.attested_by is not None and (not by_others or charter.is_agent(said.attested_by)):
        raise _refused("this one is attested, which only a part of the federation does: leave attested_by null, and sign with a key of your own.")
    return said


def _require_key(session: Session, said: Statement, signed: Signed, *, offered: PublicKey | None = None) -> None:
    """Pass if the statement is signed by a key that may; the key cannot be revoked before the commit. Raises Refused.

    Of an agent who has none yet, the one that is `offered` and signed this is made known with it.
    """
    shown = said.key[:16]
    owner = said.attested_by or said.actor
    known = agent_keys.whose(session, said.key)
    if known is None and offered is not None and _holds(offered.pem, said.key, signed) and agent_keys.register_first(session, owner, offered):
        known = agent_keys.whose(session, said.key)
    if known is None:
        raise _refused(f"key {shown} is not known as {owner}'s: make it known with `federation agent key add {owner} FILE`.")
    if known.owner != owner:
        raise _refused(f"key {shown} is not {owner}'s but {known.owner}'s.")
    if known.revoked_at is not None:
        raise _refused(f"key {shown} was revoked at {known.revoked_at:%Y-%m-%d %H:%M}: sign with another.")
    if not _holds(known.public_key, said.key, signed):
        raise _refused(f"the signature is not that of key {shown} over this text.")


@lru_cache(maxsize=1024)
def _read(pem: str) -> PublicKey:
    return parse_public(pem.encode())


def _holds(pem: str, identity: str, signed: Signed) -> bool:
    try:
        key = _read(pem)
    except ValueError:
        return False
    return key.identity == identity and key.signed(signed.text.encode(), signed.signature)


def _require_mode(mode: Mode | None, demanded: Mode, *, actor: str, action: str) -> None:
    if demanded is Mode.SIGNED and mode is not Mode.SIGNED:
        raise Refused(
            f"The charter demands a signature to {action}:",
            f"{actor} has not signed this. Call over `federation mcp`, which signs with a key on your side, or pass statement and signature to "
            f"{_SIGNED_WITH[action]}.",
        )


def _refused(remedy: str) -> Refused:
    return Refused("A statement is signed by its author, for one thing, once:", remedy)


def keep(session: Session, heard: Heard | None, *, conversation_id: str | None = None) -> None:
    """Record a statement, because what it states was done. Raises Refused for one that is recorded already."""
    if heard is None:
        return
    said, signed = heard.statement, heard.signed
    row = {name: getattr(said, name) for name in ("subject", "actor", "action", "choice", "mode", "attested_by", "key", "nonce")}
    row |= {"digest": signed.digest, "statement": signed.text}
    signature = base64.b64encode(signed.signature).decode()
    if heard.brought and session.scalar(_KEEP, row | {"signature": signed.signature}) is None:
        raise _refused("this one, or its nonce, was used already: sign anew, with another nonce.")
    payload = {"digest": signed.digest, "mode": said.mode, "statement": signed.text, "signature": signature}
    # What was signed just now cannot have been used: it is written with its event.
    kept = None if heard.brought else row | {"signature": signature}
    event_log.append(
        session,
        "statement.made",
        said.subject,
        payload=payload,
        conversation_id=conversation_id,
        kept=kept,
        unkept=None if heard.brought else partial(_require_key, session, said, signed),
    )


def make(
    session: Session, *, action: str, subject: str, content: Mapping[str, Any], conversation_id: str | None = None, besides: bool = False
) -> None:
    """Have the caller state what he does in this transaction, and record it; the choice is the verb of the action. Raises as `say` and `keep`.

    An execution states nothing: its message is signed.
    """
    if context(session).execution_id is None:
        said = say(session, action=action, choice=action.rpartition(".")[2], subject=subject, content=content, besides=besides)
        keep(session, said, conversation_id=conversation_id)


FIRST_COUNTS = "the first counts, nothing follows of the second"


def keep_contrary(session: Session, heard: Heard | None, *, conversation_id: str | None = None, follows: str = FIRST_COUNTS) -> None:
    """Record what its author signed and what contradicts what he signed before; pass if it contradicts nothing. Raises Equivocation."""
    if heard is None or heard.again or heard.statement.mode is not Mode.SIGNED:
        return
    said = heard.statement
    before = session.scalars(
        select(SignedStatement.choice)
        .where(SignedStatement.subject == said.subject, SignedStatement.actor == said.actor, SignedStatement.action == said.action)
        .where(SignedStatement.mode == Mode.SIGNED)
        .order_by(SignedStatement.created_at)
    ).all()
    # Two signatures are proof enough: nobody fills the table with more.
    if not before or said.choice in before or len(set(before)) > 1:
        return
    keep(session, heard, conversation_id=conversation_id)
    raise Equivocation(
        f"{said.actor} has signed to {said.action} {said.subject} with {before[0]!r} before, and now with {said.choice!r}: {follows}, and both "
        "signatures are kept for all to see (federation audit equivocations)"
    )


def about(session: Session, subject: str) -> list[StatementView]:
    """Return what was stated about a subject, in order, in this transaction too."""
    event_log.write(session)
    query = select(*_COLUMNS).where(SignedStatement.subject == subject).order_by(SignedStatement.created_at, SignedStatement.digest)
    return [StatementView(**row) for row in session.execute(query).mappings()]


# Of a message that is selected: None where nobody stated that he sent it.
MODE_OF_MESSAGE = (
    select(func.max(SignedStatement.mode))
    .where(SignedStatement.subject == func.concat("message:", Message.id), SignedStatement.action == "message.send")
    .where(SignedStatement.actor == Message.sender)
    .correlate(Message)
    .scalar_subquery()
)


def of_messages(session: Session, messages: Sequence[Message]) -> dict[uuid.UUID, bool]:
    """Return of each message that its sender stated whether his own key signed it; else a part of the federation attested it."""
    said = select(SignedStatement.subject, SignedStatement.actor, SignedStatement.mode).where(
        SignedStatement.subject.in_([f"message:{message.id}" for message in messages]), SignedStatement.action == "message.send"
    )
    modes = {(subject, actor): mode for subject, actor, mode in session.execute(said)} if messages else {}
    found = ((message.id, modes.get((f"message:{message.id}", message.sender))) for message in messages)
    return {identity: mode == Mode.SIGNED for identity, mode in found if mode is not None}


def equivocations(session: Session) -> list[StatementView]:
    """Return all statements that their own authors signed the contrary of, side by side: by subject, action and author."""
    other = aliased(SignedStatement)
    contrary = (
        select(other.digest)
        .where(other.subject == SignedStatement.subject, other.actor == SignedStatement.actor, other.action == SignedStatement.action)
        .where(other.mode == Mode.SIGNED, other.choice != SignedStatement.choice)
    )
    query = select(*_COLUMNS).where(SignedStatement.mode == Mode.SIGNED, contrary.exists())
    ordered = query.order_by(SignedStatement.subject, SignedStatement.action, SignedStatement.actor, SignedStatement.created_at)
    return [StatementView(**row) for row in session.execute(ordered).mappings()]


def unsound(session: Session) -> Iterator[str]:
    """Yield in words what is wrong with recorded statements: a signature that does not hold, a key that is not its author's, a wrong column."""
    owners: dict[str, tuple[str, str]] = {}
    for keys in (select(AgentKey.identity, AgentKey.agent, AgentKey.public_key), select(Signer.identity, Signer.name, Signer.public_key)):
        owners |= {identity: (owner, pem) for identity, owner, pem in session.execute(keys)}
    query = select(*_COLUMNS).order_by(SignedStatement.created_at, SignedStatement.digest)
    for row in session.execute(query, execution_options={"yield_per": 1_000}).mappings():
        view = StatementView(**row)
        if flaw := _flaw(view, owners):
            yield f"statement {view.digest[:16]} of {view.actor} about {view.subject}: {flaw}"


def _flaw(view: StatementView, owners: Mapping[str, tuple[str, str]]) -> str | None:
    signed = Signed(view.statement, view.signature)
    try:
        said = parse(view.statement)
    except NotAStatement as error:
        return f"is none: {error}"
    if signed.digest != view.digest:
        return "stands under another digest than its own"
    for name in ("subject", "actor", "action", "choice", "mode", "attested_by", "key"):
        if getattr(said, name) != getattr(view, name):
            return f"says {name} {getattr(said, name)!r}, and stands as {getattr(view, name)!r}"
    owner, pem = owners.get(said.key, (None, ""))
    if owner != (said.attested_by or said.actor):
        return f"is of key {said.key[:16]}, which is not {said.attested_by or said.actor}'s"
    return None if _holds(pem, said.key, signed) else f"its signature is not that of key {said.key[:16]}"
