"""Statements: who says what about what, in one form, with an Ed25519 signature; as values. Refuses a text in any other form.

The form is RFC 8785: keys in order, no blanks, UTF-8. What is signed are the bytes of that text, and nothing else.
"""

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Literal, Protocol

import rfc8785
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from federation.errors import FederationError, InvalidInput
from federation.security.signing import PublicKey, SigningKey

# In each of them, so that no text that is signed for another purpose (a message, a seal) is ever taken for a statement.
TYPE: Literal["federation.statement/1"] = "federation.statement/1"
LONGEST = 4_000
SIGNATURE_BYTES = 64
# In these two statements say the same of the same.
SAME = ("actor", "action", "choice", "subject", "content_sha256")

_Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
# The name of a resource is longer than all others.
_Subject = Annotated[str, StringConstraints(min_length=1, max_length=1_100)]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_MOMENT = TypeAdapter(AwareDatetime)


class Mode(StrEnum):
    """Who vouches for a statement: its author's own key, or a part of the federation that knew his token."""

    SIGNED = "signed"
    ATTESTED = "attested"


class NotAStatement(ValueError):
    """A text is no statement in its one form; says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be stated, before anybody has signed it; two of one author on one subject and action with another choice contradict."""

    actor: str
    action: str
    choice: str
    subject: str
    content_sha256: str
    at: str
    nonce: str


class Statement(BaseModel):
    """What was signed, field by field; `attested_by` is the part that signed for somebody else."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["federation.statement/1"] = TYPE
    actor: _Word
    action: _Word
    choice: _Word
    subject: _Subject
    content_sha256: _Sha256
    at: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT")]
    nonce: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32,64}$")]
    key: _Sha256
    attested_by: _Word | None = Field(...)

    @property
    def mode(self) -> Mode:
        return Mode.SIGNED if self.attested_by is None else Mode.ATTESTED

    @property
    def moment(self) -> datetime:
        """When it was signed, by the clock of who did."""
        return _MOMENT.validate_strings(self.at)

    @property
    def text(self) -> str:
        """The one form."""
        return canonical(self.model_dump())


@dataclass(frozen=True, slots=True)
class Signed:
    """The text of a statement, and 64 bytes over it; neither was looked at, unless it was signed just now, by who has `said` it."""

    text: str
    signature: bytes
    said: Statement | None = field(default=None, compare=False)

    @property
    def digest(self) -> str:
        """What names it."""
        return sha256(self.text.encode()).hexdigest()


class Voice(Protocol):
    """Signs what is stated in a transaction."""

    def speak(self, draft: Draft) -> Signed:
        """Return the statement, signed, or another one that was signed before; whoever hears it looks."""
        ...


@dataclass(frozen=True, slots=True)
class KeyVoice:
    """Signs with a key: in its owner's own name, and as the one who attests in the name of anybody else."""

    key: SigningKey
    owner: str

    def speak(self, draft: Draft) -> Signed:
        """Return the statement, signed."""
        by = None if draft.actor == self.owner else self.owner
        said = Statement(**asdict(draft), key=self.key.public.identity, attested_by=by)
        text = said.text
        return Signed(text, self.key.sign(text.encode()), said)


@dataclass(frozen=True, slots=True)
class Presented:
    """Says what somebody has signed elsewhere."""

    signed: Signed

    def speak(self, draft: Draft) -> Signed:
        """Return what was presented, whatever is to be stated."""
        return self.signed


class SignatureWanted(FederationError):
    """Whoever calls signs what he is asked to, and has not signed this: nothing was done.

    `content` is what `draft` has the hash of; `proposal`, of a ballot, what the `options_hash` in it is the hash of.
    """

    def __init__(self, draft: Draft, content: Mapping[str, Any], proposal: Mapping[str, Any] | None = None) -> None:
        self.draft, self.content, self.proposal = draft, content, proposal
        super().__init__("sign this, and call again with the statement")


class Signatory:
    """Says what a caller has signed so far who signs, elsewhere, what he is asked to; `key` is his, which may not be known yet."""

    def __init__(self, signed: Iterable[Signed] = (), *, key: PublicKey | None = None) -> None:
        """Raises NotAStatement."""
        self.key = key
        self._signed = {_same(parse(one.text)): one for one in signed}

    def has_signed(self, draft: Draft) -> bool:
        """Return whether this was signed, and not said yet."""
        return _same(draft) in self._signed

    def speak(self, draft: Draft) -> Signed:
        """Return the statement that was signed of this, once."""
        return self._signed.pop(_same(draft))


def _same(one: Draft | Statement) -> tuple[str, ...]:
    return tuple(getattr(one, name) for name in SAME)


def presented(statement: str | None, signature: str | None) -> Presented | None:
    """Return a statement that came with a call; None if none did. Raises InvalidInput for half of one."""
    if statement is None and signature is None:
        return None
    if statement is None or signature is None:
        missing = "statement" if statement is None else "signature"
        raise InvalidInput(missing, None, "both, statement and signature, or neither")
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != SIGNATURE_BYTES:
        raise InvalidInput("signature", signature[:100], f"an Ed25519 signature, {SIGNATURE_BYTES} bytes in base64")
    return Presented(Signed(statement, raw))


def parse(text: str) -> Statement:
    """Return the statement of a text. Raises NotAStatement."""
    if len(text) > LONGEST:
        raise NotAStatement(f"it has {len(text)} characters, and may have {LONGEST}")
    try:
        found = Statement.model_validate_json(text)
        moment = found.moment
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        raise NotAStatement(f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}") from error
    except ValueError as error:
        raise NotAStatement(str(error)) from error
    if moment.year < 1970 or found.text != text:
        raise NotAStatement("it is not in the one form of RFC 8785: keys in order, no blanks, each once")
    return found


def nonce() -> str:
    """Return what makes a statement unlike each other one."""
    return secrets.token_hex(16)


def content_sha256(content: Mapping[str, Any]) -> str:
    """Return the hash of what a statement is about, the same for the same JSON however it is written. Raises ValueError for what is no JSON."""
    return sha256(canonical(content).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Return JSON as RFC 8785 writes it, to which each number is a double.

    Raises ValueError for what is no JSON, and for whole numbers of 2**53 and more: as doubles, one of them is like the next.
    """
    return rfc8785.dumps(value).decode()
