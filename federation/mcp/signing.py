"""How a caller whose key stays with him signs what he does over HTTP: his call says so in its `_meta`, and is answered by what to sign.

Nothing is done until he calls again with the statement. What he is asked to sign is what the service would record, so that he need not know
beforehand which conversation, which UUID, which terms it will be; whether it is what he asked for is his to look at.
"""

import base64
import json
from typing import Annotated, Any

import mcp_types
from fastmcp.server.dependencies import get_context
from fastmcp.tools import ToolResult
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from federation.errors import InvalidInput
from federation.security.signing import parse_public
from federation.security.statements import LONGEST, NotAStatement, Signatory, SignatureWanted, canonical, presented

# In the `_meta` of a call, and of the answer that asks for a signature.
SIGN, WANTED = "federation/sign", "federation/wanted"
# What one call states; a client that never stops signing is told so.
MOST = 8


class Brought(BaseModel):
    """A statement that was signed, and the signature in base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statement: Annotated[str, Field(max_length=LONGEST)]
    signature: Annotated[str, Field(max_length=88)]


class Signing(BaseModel):
    """What a caller who signs says: his public key in PEM, which may not be known yet, and what he has signed of this call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(max_length=1_000)] | None = None
    statements: Annotated[list[Brought], Field(max_length=MOST)] = []


class Wanted(BaseModel):
    """What a caller is asked to sign: all of the statement but `at`, `nonce` and `key`, and the content whose hash it has.

    Of a ballot also the `proposal` whose hash is in the content: by that the subject and the choice can be looked at.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    actor: str
    action: str
    choice: str
    subject: str
    content: dict[str, Any]
    proposal: dict[str, Any] | None = None


def signatory() -> Signatory | None:
    """Return the caller of this call as who signs what he is asked to; None if he does not. Raises InvalidInput."""
    try:
        context = get_context().request_context
    except RuntimeError:  # it is no call over MCP
        return None
    said = (context.meta or {}).get(SIGN) if context is not None else None
    if said is None:
        return None
    try:
        signing = Signing.model_validate(said)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, (SIGN, *problem["loc"])))
        raise InvalidInput(place, problem["input"], problem["msg"].removeprefix("Input should be ")) from error
    signed = [found.signed for one in signing.statements if (found := presented(one.statement, one.signature))]
    try:
        key = None if signing.key is None else parse_public(signing.key.encode())
    except ValueError as error:
        # It is not repeated here, because it may be a private one.
        raise InvalidInput(f"{SIGN}.key", "something else", "the public half of an Ed25519 key in PEM") from error
    try:
        return Signatory(signed, key=key)
    except NotAStatement as error:
        raise InvalidInput(f"{SIGN}.statements", "something else", f"statements; one is none, because {error}") from error


def wanted(error: SignatureWanted) -> ToolResult:
    """Return the answer that asks for a signature; to a client that did not ask for it, an error like another."""
    draft = error.draft
    # Read back, so that what is hashed there is what was hashed here.
    content = json.loads(canonical(error.content))
    proposal = None if error.proposal is None else json.loads(canonical(error.proposal))
    asks = Wanted(actor=draft.actor, action=draft.action, choice=draft.choice, subject=draft.subject, content=content, proposal=proposal)
    return ToolResult(content=[mcp_types.TextContent(type="text", text=str(error))], meta={WANTED: asks.model_dump(exclude_none=True)}, is_error=True)


def brought(text: str, signature: bytes) -> dict[str, str]:
    """Return a signed statement as a call brings it."""
    return {"statement": text, "signature": base64.b64encode(signature).decode()}
