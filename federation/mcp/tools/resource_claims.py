"""Tools to claim files and other resources, to give them back, and to see who has what."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.lines import asked
from federation.mcp.tools.arguments import LONGEST_LINE, NUMBER, LineS, ResourceName, StatementSignature, StatementText, TtlS
from federation.security.statements import presented
from federation.services import resource_claims
from federation.services.claims import ClaimOutcome
from federation.services.resource_claims import GivenBack, Listed


@dataclass(frozen=True, slots=True)
class ResourceClaim:
    """Who holds the resource."""

    claimed: Annotated[bool, Field(description="You hold it. False: do not change it; see `note`.")]
    resource: Annotated[str, Field(description="Its name in the one form; release it by this.")]
    fencing_token: Annotated[int | None, Field(description="Yours if you hold it; it grows whenever a claim on any of it changes hands.")]
    holder: str | None
    expires_at: Annotated[datetime | None, Field(description="When the holder's claim lapses, if it is not extended before.")]
    place: Annotated[int | None, Field(description="Your place in the line, 1 is next; null: you do not wait.")]
    note: Annotated[str | None, Field(description="What is in the way, and what to do.")]


async def federation_claim(
    call: Call,
    resource: ResourceName,
    *,
    description: Annotated[str, Field(max_length=LONGEST_LINE, description="What you are about to do, for those who look on.")] = "",
    ttl_s: TtlS = None,
    wait_s: LineS = 0,
    fencing_token: Annotated[
        int | None, Field(ge=1, lt=2**63, description="Only extend the claim that has this token; an error if it is over."), NUMBER
    ] = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> ResourceClaim:
    """Claim a file, a folder or any other resource before you change it. One agent holds it at a time; a folder conflicts with all in it.

    Claim again before `expires_at` to extend it, with `fencing_token` just before you write: if that fails, somebody else may have changed
    it, so read it anew. Give it back with federation_release.
    """
    lasting_s = call.settings.claim_ttl_s if ttl_s is None else ttl_s
    voice = presented(statement, signature)

    def ask(session: Session, present_s: float | None) -> ClaimOutcome:
        return resource_claims.take(session, resource, description=description, ttl_s=lasting_s, token=fencing_token, present_s=present_s)

    outcome = await asked(call, ask, wait_s=wait_s, voice=voice)
    note = None if outcome.claimed else _advice(outcome)
    return ResourceClaim(outcome.claimed, outcome.resource, outcome.fencing_token, outcome.holder, outcome.expires_at, outcome.place, note)


def _advice(lost: ClaimOutcome) -> str:
    wait = "Wait in line with wait_s, or do something else."
    if lost.holder is None:
        return f"Others wait for it before you. {wait}"
    name = "it" if lost.held == lost.resource else lost.held
    doing = f" ({lost.doing})" if lost.doing else ""
    return f"{lost.holder} holds {name}{doing}. {wait}"


async def federation_release(call: Call, resource: ResourceName, statement: StatementText = None, signature: StatementSignature = None) -> GivenBack:
    """Give back a resource that you have claimed, or wait for it no more; the next in line gets it."""
    voice = presented(statement, signature)
    return await call.transact(lambda session: resource_claims.give_back(session, resource), voice=voice)


async def federation_claims(
    call: Call,
    resource: Annotated[ResourceName | None, Field(description="Only claims that are in the way of this one.")] = None,
    *,
    mine: Annotated[bool, Field(description="Only yours.")] = False,
    after: Annotated[str | None, Field(max_length=1000, description="`more` of your former call.")] = None,
    limit: Annotated[int, Field(ge=1, le=200, description="At most so many."), NUMBER] = 50,
) -> Listed:
    """See who has claimed which files and other resources until when, and who waits for them."""
    return await call.transact(lambda session: resource_claims.listed(session, overlapping=resource, mine=mine, after=after, limit=limit))
