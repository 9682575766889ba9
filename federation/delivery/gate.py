"""Who may have a message run on this node: whose signature it bears, for whom it is and until when; parses no body before it is vouched for."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu import Message

from federation.delivery.envelope import HEADER, SIGNATURE, Signature, canonical_bytes, read
from federation.delivery.flaws import content_flaw, header_flaw
from federation.delivery.known_signers import KnownSigner, KnownSigners
from federation.placement.fitting import Unplaceable, capable
from federation.placement.node import NodeView
from federation.services.signers import SHOWN


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is not run; `final` if that holds for the execution itself, and not only for this message, which may be anybody's.

    `lacks` is what this node has not that it wants, where nothing else is wrong with it: the node may have had it when it was sent.
    """

    reason: str
    final: bool
    lacks: str | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """The key that a message is signed with must be read from PostgreSQL first."""

    identity: str


class Gate:
    """Judges messages by what this process knows; reads no table itself: `refresh` is called with a key that should be read anew soon."""

    def __init__(self, app: Celery, node: Callable[[], NodeView | None], *, required: bool, refresh: Callable[[str], None]) -> None:
        self._app, self._node, self._required, self._refresh = app, node, required, refresh
        self.signers = KnownSigners()

    def judge(self, message: Message, *, by_last: bool = False) -> Refusal | Unread | None:
        """Return None for a message that may run; `by_last`: what was known of its signer last is enough."""
        if (reason := header_flaw(message)) is not None:
            return Refusal(reason, final=False)
        header = message.headers.get(SIGNATURE)
        if header is None:
            if self._required:
                return Refusal("it is not signed: nobody who may send executions vouches for it", final=False)
            return self._judge_content(message)
        signature = Signature.model_validate(header)
        known = self.signers.last(signature.signer) if by_last else self.signers.get(signature.signer)
        if known is None:
            return Unread(signature.signer)
        if not by_last and not self.signers.is_fresh(known):
            self._refresh(signature.signer)
        if (reason := signature_flaw(message, signature, known)) is not None:
            return Refusal(reason, final=False)
        return self._judge_audience(message, signature) or self._judge_content(message)

    def _judge_content(self, message: Message) -> Refusal | None:
        reason = _expiry_flaw(message.headers) or content_flaw(message, self._app.tasks)
        return None if reason is None else Refusal(reason, final=True)

    def _judge_audience(self, message: Message, signature: Signature) -> Refusal | None:
        """Refuse what is not for this node."""
        consumed = set(self._app.amqp.queues.consume_from)
        info = message.delivery_info or {}
        if not info.get("exchange") and info.get("routing_key") not in consumed:
            # Nobody signs this, and a retry would go there.
            return Refusal(f"it says that it came by the queue {info.get('routing_key')!r}, which this worker does not consume", final=False)
        if signature.node is not None:
            if signature.node in consumed:
                return None
            return Refusal(f"it was sent to {signature.node!r}, and this worker consumes {', '.join(sorted(consumed))}", final=False)
        header: Any = message.headers.get(HEADER)
        if header is None:
            return Refusal("it does not say for whom it is", final=False)
        node = self._node()
        try:
            chosen = capable(read(header).requirements, [node]) if node is not None else None
        except ValueError:
            # What is wrong with an envelope that was signed so is told with the rest of the content.
            return None
        return (
            Refusal(f"it is not for {node.name}: {chosen}", final=False, lacks=str(chosen))
            if node is not None and isinstance(chosen, Unplaceable)
            else None
        )


def signature_flaw(message: Message, signature: Signature, known: KnownSigner) -> str | None:
    """Return why a signature does not vouch for a message, None if it does."""
    short = signature.signer[:SHOWN]
    if known.key is None:
        return f"its signer is unknown: key {short} is not registered"
    if known.revoked_at is not None:
        return f"its signer is revoked: key {short} ({known.name}), at {known.revoked_at:%Y-%m-%d %H:%M:%S %Z}"
    body = message.body.encode("utf-8", "surrogateescape") if isinstance(message.body, str) else bytes(message.body or b"")
    try:
        said = canonical_bytes(
            message.headers,
            body,
            signer=signature.signer,
            node=signature.node,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
        )
    except (TypeError, ValueError) as error:
        return f"its headers are nothing that is signed: {error}"
    if not known.key.signed(said, signature.raw):
        return f"its signature is not over this: it was made up, or changed since {known.name} (key {short}) sent it"
    return None


def _expiry_flaw(headers: dict[str, Any]) -> str | None:
    expires = headers.get("expires")
    # What nobody waits for, such as a heartbeat, may lapse without a word; Celery drops it.
    if expires is None or headers.get("ignore_result"):
        return None
    until = maybe_iso8601(expires)
    return f"it expired at {expires}" if until is not None and maybe_make_aware(until) <= datetime.now(UTC) else None
