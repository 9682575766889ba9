"""Claims on resources, as agents, executions and people at the command line ask for them: by name, and as the charter lets them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.charter import charter as rules
from federation.errors import InvalidInput
from federation.services import charter, claim_lines, claims, limits, resources, statements
from federation.services.claims import ClaimOutcome
from federation.services.resources import Resource
from federation.store.context import context

CLAIM = "federation.tasks.claims.claim"
LONGEST_DESCRIPTION = 1_000

_LISTED = text(
    """
    SELECT resource, holder, fencing_token, left(description, 200) AS description, expires_at FROM claims
    WHERE released_at IS NULL AND expires_at > clock_timestamp() AND resource NOT LIKE 'task:%'
        AND (CAST(:wanted AS text) IS NULL OR federation_overlap(resource, :wanted))
        AND (CAST(:holder AS text) IS NULL OR holder = :holder)
        AND (CAST(:after AS text) IS NULL OR resource ~>~ :after)
    ORDER BY resource USING ~<~ LIMIT :most
    """
)


@dataclass(frozen=True, slots=True)
class Held:
    """A claim that stands."""

    resource: str
    holder: str
    expires_at: datetime
    description: Annotated[str, Field(description="What the holder is doing, or how that begins.")]
    fencing_token: Annotated[int | None, Field(description="If it is yours.")]
    waiting: Annotated[Sequence[str], Field(description="Who waits for something of it, in the order of the line.")]


@dataclass(frozen=True, slots=True)
class Listed:
    """Claims in the order of their names."""

    claims: Sequence[Held]
    more: Annotated[str | None, Field(description="There are more: pass it as `after`.")]
    you: str
    must_claim: Annotated[Sequence[str], Field(description="The charter: what is committed only by who has claimed it.")]


def take(
    session: Session,
    name: str,
    *,
    description: str = "",
    ttl_s: float,
    token: int | None = None,
    present_s: float | None = None,
    is_first: bool = False,
) -> ClaimOutcome:
    """Claim a resource, or extend one's claim; losing is an answer. With `token`, `present_s` and `is_first` as `claims.claim` has them.

    Raises InvalidInput, Refused for whom the charter does not let, and for a token whose claim is over, OverQuota.
    """
    resource = resources.parsed(name)
    _require_right(session)
    said = _valid_description(description)
    outcome = claims.claim(session, resource, description=said, ttl_s=ttl_s, token=token, present_s=present_s, is_first=is_first)
    if outcome.claimed and charter.is_agent(context(session).actor):
        limits.held_claims(session)
    if outcome.claimed and not outcome.again:
        content = {"description": description, "ttl_s": ttl_s, "fencing_token": token}
        statements.make(session, action="claim.take", subject=f"claim:{resource.name}", content=content)
    return outcome


def _require_right(session: Session) -> None:
    charter.require(session, Right.CLAIM, instead="leave it to them, and do not change it.")


def _valid_description(description: str) -> str:
    if len(description) > LONGEST_DESCRIPTION:
        raise InvalidInput("description", f"{len(description)} characters", f"at most {LONGEST_DESCRIPTION}")
    return description


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What the caller has no more."""

    released: Annotated[bool, Field(description="False: you did not hold it under this name (any more), and nothing was changed.")]
    left_line: Annotated[bool, Field(description="You waited for it, and do no more.")]


def give_back(session: Session, name: str) -> GivenBack:
    """Release the caller's own claim of this name, and wait for it no more. Raises InvalidInput."""
    resource = resources.parsed(name)
    if released := claims.release(session, resource):
        statements.make(session, action="claim.release", subject=f"claim:{resource.name}", content={})
    return GivenBack(released, claim_lines.leave(session, resource))


def check(session: Session, name: str, token: int) -> None:
    """Pass if the caller holds a claim that covers this with the token, which nobody takes over before the commit. Raises InvalidInput, Refused."""
    claims.require(session, resources.parsed(name), token)


def revoke(session: Session, name: str) -> bool:
    """End whoever's claim of this name, for an operator; False if nobody held it."""
    return claims.revoke(session, resources.parsed(name))


def listed(
    session: Session, *, overlapping: str | None = None, mine: bool = False, after: str | None = None, limit: int = 50, seen_by: str | None = None
) -> Listed:
    """Return the claims on resources that stand, or those that overlap a name, as the caller sees them, or as somebody for whom an operator asks.

    Raises InvalidInput.
    """
    wanted: Resource | None = None if overlapping is None else resources.parsed(overlapping)
    me = seen_by or context(session).actor
    values = {"wanted": wanted and wanted.name, "holder": me if mine else None, "after": after, "most": limit + 1}
    rows = session.execute(_LISTED, values).all()
    shown = rows[:limit]
    lines = claim_lines.waiting(session, [row.resource for row in shown])
    found = [
        Held(
            row.resource,
            row.holder,
            row.expires_at,
            row.description,
            row.fencing_token if row.holder == me else None,
            lines.get(row.resource, []),
        )
        for row in shown
    ]
    return Listed(found, shown[-1].resource if len(rows) > limit else None, me, rules().claims.required)
