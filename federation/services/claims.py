"""Claims: who holds a resource until when, decided by one statement, with a fencing token that only grows."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.services import charter, executions
from federation.store import event_log, turns
from federation.store.context import context, notify
from federation.store.models.executions import Effect
from federation.store.models.tasks import Claim

SHORTEST_TTL_S, LONGEST_TTL_S = 1, 86_400

# One statement, because check-then-insert lets two racers pass the check. The holder's own second call renews and keeps the token.
_CLAIM = text(
    """
    INSERT INTO claims AS c (resource, holder, fencing_token, description, acquired_at, expires_at)
    VALUES (:resource, :holder, 1, :description, clock_timestamp(), clock_timestamp() + make_interval(secs => :ttl_s))
    ON CONFLICT (resource) DO UPDATE SET
        fencing_token = c.fencing_token
            + CASE WHEN c.holder = excluded.holder AND c.released_at IS NULL AND c.expires_at > clock_timestamp() THEN 0 ELSE 1 END,
        acquired_at = clock_timestamp(),
        holder = excluded.holder,
        updated_by = excluded.holder,
        description = excluded.description,
        expires_at = clock_timestamp() + make_interval(secs => :ttl_s),
        released_at = NULL
    WHERE c.holder = excluded.holder OR c.released_at IS NOT NULL OR c.expires_at <= clock_timestamp()
    RETURNING c.fencing_token, c.expires_at
    """
)


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """Whether the caller holds the resource; the token is the winner's alone; `again`: told to a second delivery of the same claim."""

    claimed: bool
    resource: str
    holder: str
    fencing_token: int | None
    expires_at: datetime
    again: bool = False


def claim(session: Session, resource: str, *, description: str, ttl_s: float) -> ClaimOutcome:
    """Claim a resource, or renew one's own claim; losing is an answer, not an error. Raises InvalidInput."""
    valid_ttl(ttl_s)
    holder = context(session).actor
    _take_turn(session, resource)
    former = _claimed_before(session, resource)
    if former is not None:
        return former
    won = session.execute(_CLAIM, {"resource": resource, "holder": holder, "description": description, "ttl_s": ttl_s}).one_or_none()
    if won is not None:
        if context(session).execution_id is not None:
            executions.once(session, "claim", {"resource": resource, "fencing_token": won.fencing_token})
        payload = {"resource": resource, "fencing_token": won.fencing_token, "expires_at": won.expires_at, "description": description}
        event_log.append(session, "claim.acquired", f"claim:{resource}", payload=payload)
        return ClaimOutcome(True, resource, holder, won.fencing_token, won.expires_at)
    current = session.execute(select(Claim.holder, Claim.expires_at).where(Claim.resource == resource)).one()
    return ClaimOutcome(False, resource, current.holder, None, current.expires_at)


def _take_turn(session: Session, resource: str) -> None:
    # Who revokes would neither see nor await a claim that is not committed yet, and it would stay; a second delivery would win what the first has.
    # Taken before any row is locked, so that nobody waits here who holds one.
    turns.take(session, f"claim of {resource}")


def valid_ttl(ttl_s: float) -> float:
    """Return for how many seconds a claim holds. Raises InvalidInput."""
    if not SHORTEST_TTL_S <= ttl_s <= LONGEST_TTL_S:
        raise InvalidInput("ttl_s", ttl_s, f"{SHORTEST_TTL_S} to {LONGEST_TTL_S} seconds")
    return ttl_s


def _claimed_before(session: Session, resource: str) -> ClaimOutcome | None:
    """Return what a former delivery of this execution won, if it did and still holds it."""
    who = context(session)
    effect = session.get(Effect, (who.execution_id, "claim")) if who.execution_id is not None else None
    if effect is None:
        return None
    held = Claim.released_at.is_(None) & (Claim.expires_at > func.clock_timestamp())
    query = select(Claim.holder, Claim.fencing_token, Claim.expires_at, held.label("held")).where(Claim.resource == resource)
    row = session.execute(query).one()
    mine = row.held and (row.holder, row.fencing_token) == (who.actor, effect.value["fencing_token"])
    return ClaimOutcome(mine, resource, row.holder, row.fencing_token if mine else None, row.expires_at, again=True)


def release(session: Session, resource: str) -> bool:
    """Release one's own claim; a stranger's call changes nothing and returns False."""
    holder = context(session).actor
    released = session.scalar(
        update(Claim)
        .where(Claim.resource == resource, Claim.holder == holder, Claim.released_at.is_(None), Claim.expires_at > func.clock_timestamp())
        .values(released_at=func.clock_timestamp())
        .returning(Claim.fencing_token)
    )
    if released is None:
        return False
    event_log.append(session, "claim.released", f"claim:{resource}", payload={"resource": resource, "fencing_token": released})
    notify(session, [f"claim:{resource}"])
    return True


def revoke(session: Session, resource: str) -> None:
    """End whoever's claim on a resource that is of no use any more, also one that is just being made; whether the caller may is theirs to know.

    Call it before a row is locked that who claims locks too.
    """
    _take_turn(session, resource)
    ended = update(Claim).where(Claim.resource == resource, Claim.released_at.is_(None)).values(released_at=func.clock_timestamp())
    token = session.scalar(ended.returning(Claim.fencing_token))
    if token is not None:
        event_log.append(session, "claim.released", f"claim:{resource}", payload={"resource": resource, "fencing_token": token})
        notify(session, [f"claim:{resource}"])


def locked(session: Session, resource: str) -> Claim | None:
    """Return the row of a resource, which stays locked until the commit; None if nobody ever claimed it."""
    query = select(Claim).where(Claim.resource == resource).with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def require(session: Session, resource: str, fencing_token: int) -> None:
    """Pass if the caller holds the resource with the current token; the row stays locked until the commit.

    Raises Refused for a stranger, a lapsed claim or an old token.
    """
    actor = context(session).actor
    row = locked(session, resource)
    now = session.scalar(select(func.clock_timestamp()))
    if row is None or row.released_at is not None:
        raise charter.refused("claim", f"nobody holds {resource}; claim it first.")
    if row.holder != actor:
        raise charter.refused("claim", f"{row.holder} holds {resource} until {_when(row.expires_at)}; wait for its release or expiry, then claim it.")
    if row.fencing_token != fencing_token:
        raise charter.refused("claim", f"token {fencing_token} of {resource} is out of date; claim again and look at what has changed since.")
    if now is not None and row.expires_at <= now:
        raise charter.refused("claim", f"your claim on {resource} lapsed at {_when(row.expires_at)}; claim it again.")


def _when(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
