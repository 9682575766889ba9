"""Tools to claim files and other resources, to give them back, and to see who has what."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.lines import in_line
from federation.mcp.tools import claims
from federation.mcp.tools.arguments import LONGEST_LINE, NUMBER, LineS, ResourceName, StatementSignature, StatementText, TtlS
from federation.mcp.waits import Standing, value_of
from federation.security.statements import presented
from federation.services import claim_lines, resource_claims
from federation.services.claims import ClaimOutcome, told
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
    execution_id: Annotated[UUID | None, Field(description="No worker has decided yet; ask federation_task_result with it.")]
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

    execution_id = uuid4()

    def request(session: Session) -> UUID:
        return resource_claims.request(session, resource, description=description, ttl_s=lasting_s, token=fencing_token, execution_id=execution_id)

    def again(session: Session) -> ClaimOutcome:
        return resource_claims.take(session, resource, description=description, ttl_s=lasting_s, present_s=claim_lines.PRESENT_S)

    decided, stands = await value_of(
        call, execution_id, wait_s=claims.DECIDED_WITHIN_S, waiting="the claim is being decided", record=request, voice=voice
    )
    if decided is None:
        return ResourceClaim(False, resource, None, None, None, None, execution_id, _undecided(stands))
    if not decided["claimed"] and wait_s > 0:
        decided = told(await in_line(call, again, wait_s=wait_s))
    return ResourceClaim(
        decided["claimed"],
        decided["resource"],
        decided["fencing_token"],
        decided["holder"],
        datetime.fromisoformat(decided["expires_at"]) if decided["expires_at"] else None,
        decided["place"],
        None,
        None if decided["claimed"] else _advice(decided),
    )


def _undecided(stands: Standing) -> str:
    return " ".join(filter(None, ("No worker has decided yet.", stands.waiting_for, stands.note)))


def _advice(decided: Mapping[str, Any]) -> str:
    wait = "Wait in line with wait_s, or do something else."
    if decided["again"]:
        return "This claim of yours is over; claim again if you still want it."
    if decided["holder"] is None:
        return f"Others wait for it before you. {wait}"
    name = "it" if decided["held"] == decided["resource"] else decided["held"]
    doing = f" ({decided['doing']})" if decided["doing"] else ""
    return f"{decided['holder']} holds {name}{doing}. {wait}"


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
