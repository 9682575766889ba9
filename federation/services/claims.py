"""Claims: who holds a resource until when, decided by one statement, with a fencing token that only grows.

Whether a caller may claim is for those to know who call this: it looks at no charter.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from federation.errors import InvalidInput, Refused
from federation.services import charter, claim_lines, executions
from federation.services.resources import LONGEST_TTL_S, SHORTEST_TTL_S, Resource
from federation.store import event_log, turns
from federation.store.context import context, notify
from federation.store.models.claims import Claim
from federation.store.models.executions import Effect

# A process that stands still while it has the turn would keep all others from theirs; PostgreSQL ends its session.
SILENT_AT_MOST_S = 15

# One statement, because check-then-insert lets two racers pass the check. Whoever could be in the way has had his turn before it begins, or
# has it after the commit. `ahead` are those whose turn in the line it is: not who waits for what the caller has, because that one cannot come first.
_CLAIM = text(
    """
    WITH moment AS MATERIALIZED (SELECT clock_timestamp() AS instant),
    overlapping AS MATERIALIZED (
        SELECT resource, holder, fencing_token, expires_at, description, released_at,
            released_at IS NULL AND expires_at > instant AS held, holder = :holder AS own
        FROM claims, moment WHERE resource = ANY(CAST(:names AS text[])) OR resource ~>=~ :first AND resource ~<~ :beyond
    ), mine AS (
        SELECT fencing_token FROM overlapping WHERE resource = :resource AND own AND held
    ), blocked AS (
        SELECT * FROM overlapping WHERE held AND NOT own ORDER BY expires_at DESC, resource LIMIT 1
    ), ahead AS (
        SELECT FROM claim_waiters w, moment
        WHERE (w.resource = ANY(CAST(:names AS text[])) OR w.resource ~>=~ :first AND w.resource ~<~ :beyond)
            AND w.holder <> :holder AND w.present_until > instant
            AND w.place < coalesce((SELECT place FROM claim_waiters WHERE resource = :resource AND holder = :holder), 9223372036854775807)
            AND NOT EXISTS (
                SELECT FROM claims c
                WHERE c.holder = :holder AND c.released_at IS NULL AND c.expires_at > instant AND federation_overlap(c.resource, w.resource)
            )
    ), won AS (
        INSERT INTO claims AS c (resource, holder, fencing_token, description, acquired_at, expires_at)
        SELECT :resource, :holder, coalesce((SELECT max(fencing_token) FROM overlapping), 0) + 1, :description,
            instant, instant + make_interval(secs => :ttl_s)
        FROM moment
        WHERE CASE WHEN EXISTS (SELECT FROM mine) THEN CAST(:token AS bigint) IS NULL OR (SELECT fencing_token FROM mine) = :token
            ELSE CAST(:token AS bigint) IS NULL AND NOT EXISTS (SELECT FROM blocked) AND NOT EXISTS (SELECT FROM ahead) END
        ON CONFLICT (resource) DO UPDATE SET
            fencing_token = coalesce((SELECT fencing_token FROM mine), excluded.fencing_token),
            holder = excluded.holder,
            updated_by = excluded.holder,
            description = excluded.description,
            acquired_at = excluded.acquired_at,
            expires_at = excluded.expires_at,
            released_at = NULL
        RETURNING fencing_token, expires_at
    ), lapsed AS (
        SELECT resource, holder, fencing_token FROM overlapping WHERE released_at IS NULL AND NOT held AND NOT own AND EXISTS (SELECT FROM won)
    ), ended AS (
        UPDATE claims SET released_at = instant, updated_by = :holder FROM moment
        WHERE resource IN (SELECT resource FROM lapsed) AND resource <> :resource
    ), left_line AS (
        DELETE FROM claim_waiters WHERE resource = :resource AND holder = :holder AND EXISTS (SELECT FROM won)
    )
    SELECT won.fencing_token, won.expires_at, EXISTS (SELECT FROM mine) AS renewed, (SELECT count(*) FROM ahead) AS ahead,
        (SELECT json_agg(lapsed) FROM lapsed) AS taken_from,
        blocked.resource AS held, blocked.holder, blocked.description AS doing, blocked.expires_at AS held_until,
        extract(epoch FROM blocked.expires_at - instant)::float8 AS free_in_s
    FROM moment LEFT JOIN won ON true LEFT JOIN blocked ON true
    """
)


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """Whether the caller holds the resource; the token is the winner's alone; `again`: told to a second delivery of the same claim.

    Of a loser's: `holder` None: nobody holds it, and others wait for it before him; `held`: the name of the claim that is in the way; `place`: his
    own in the line, counted from 1, None: in none.
    """

    claimed: bool
    resource: str
    holder: str | None
    fencing_token: int | None
    expires_at: datetime | None
    again: bool = False
    held: str | None = None
    doing: str = ""
    free_in_s: float | None = None
    place: int | None = None
    waited_s: float = 0.0


def told(outcome: ClaimOutcome) -> dict[str, Any]:
    """Return an outcome as JSON has it."""
    return {**asdict(outcome), "expires_at": outcome.expires_at and outcome.expires_at.isoformat()}


def claim(
    session: Session,
    resource: Resource,
    *,
    description: str,
    ttl_s: float,
    token: int | None = None,
    present_s: float | None = None,
    is_first: bool = False,
) -> ClaimOutcome:
    """Claim a resource, or renew one's own claim; losing is an answer, not an error.

    With a `token` it renews the claim that has it, and wins nothing anew: Refused if that is over. With `present_s` who loses waits in line,
    and counts as present for so long. An execution that was never delivered before, `is_first`, has won nothing yet. Raises InvalidInput.
    """
    valid_ttl(ttl_s)
    holder = context(session).actor
    take_turn(session, resource)
    former = None if is_first else _claimed_before(session, resource)
    if former is not None:
        return former
    asked = {"holder": holder, "description": description, "ttl_s": ttl_s, "token": token}
    row = session.execute(_CLAIM, {**claim_lines.overlapping(resource), **asked}).one()
    if row.fencing_token is None:
        if token is not None:
            raise _over(session, resource, token)
        place, waited_s = (None, 0.0) if present_s is None else claim_lines.join(session, resource, present_s=present_s, ahead=row.ahead)
        return ClaimOutcome(False, resource.name, row.holder, None, row.held_until, False, row.held, row.doing or "", row.free_in_s, place, waited_s)
    if context(session).execution_id is not None:
        executions.once(session, "claim", {"resource": resource.name, "fencing_token": row.fencing_token})
    for lapsed in row.taken_from or ():
        _tell_lapsed(session, lapsed)
    payload = {
        "resource": resource.name,
        "fencing_token": row.fencing_token,
        "expires_at": row.expires_at,
        "description": description,
        "renewed": row.renewed,
    }
    event_log.append(session, "claim.acquired", f"claim:{resource.name}", payload=payload)
    return ClaimOutcome(True, resource.name, holder, row.fencing_token, row.expires_at)


def _tell_lapsed(session: Session, lapsed: Mapping[str, Any]) -> None:
    resource = lapsed["resource"]
    payload = {"resource": resource, "holder": lapsed["holder"], "fencing_token": lapsed["fencing_token"]}
    event_log.append(session, "claim.lapsed", f"claim:{resource}", payload=payload)


def take_turn(session: Session, resource: Resource) -> None:
    """Let transactions about what overlaps go one after the other; call it before a row is locked."""
    # Who revokes would neither see nor await a claim that is not committed yet, and it would stay; a second delivery would win what the first has.
    # Taken before any row is locked, so that nobody waits here who holds one; and from the root downwards, so that nobody waits in a circle.
    turns.take(session, f"claim of {resource.node}", sharing=[f"claim of {node}" for node in resource.above], silent_s=SILENT_AT_MOST_S)


def valid_ttl(ttl_s: float) -> float:
    """Return for how many seconds a claim holds. Raises InvalidInput."""
    if not SHORTEST_TTL_S <= ttl_s <= LONGEST_TTL_S:
        raise InvalidInput("ttl_s", ttl_s, f"{SHORTEST_TTL_S} to {LONGEST_TTL_S} seconds")
    return ttl_s


def _claimed_before(session: Session, resource: Resource) -> ClaimOutcome | None:
    """Return what a former delivery of this execution won, if it did and still holds it."""
    who = context(session)
    effect = session.get(Effect, (who.execution_id, "claim")) if who.execution_id is not None else None
    if effect is None:
        return None
    held = Claim.released_at.is_(None) & (Claim.expires_at > func.clock_timestamp())
    query = select(Claim.holder, Claim.fencing_token, Claim.expires_at, held.label("held")).where(Claim.resource == resource.name)
    row = session.execute(query).one()
    mine = row.held and (row.holder, row.fencing_token) == (who.actor, effect.value["fencing_token"])
    return ClaimOutcome(mine, resource.name, row.holder, row.fencing_token if mine else None, row.expires_at, again=True)


def release(session: Session, resource: Resource) -> bool:
    """Release one's own claim; a stranger's call changes nothing and returns False."""
    take_turn(session, resource)
    holder = context(session).actor
    released = session.scalar(
        update(Claim)
        .where(Claim.resource == resource.name, Claim.holder == holder, Claim.released_at.is_(None), Claim.expires_at > func.clock_timestamp())
        .values(released_at=func.clock_timestamp())
        .returning(Claim.fencing_token)
    )
    if released is None:
        return False
    _tell_released(session, resource, released)
    return True


def revoke(session: Session, resource: Resource) -> bool:
    """End whoever's claim on a resource, also one that is just being made; whether the caller may is theirs to know. False if nobody held it.

    Call it before a row is locked that who claims locks too.
    """
    take_turn(session, resource)
    ended = update(Claim).where(Claim.resource == resource.name, Claim.released_at.is_(None)).values(released_at=func.clock_timestamp())
    token = session.scalar(ended.returning(Claim.fencing_token))
    if token is not None:
        _tell_released(session, resource, token)
    return token is not None


def _tell_released(session: Session, resource: Resource, token: int) -> None:
    payload = {"resource": resource.name, "fencing_token": token}
    event_log.append(session, "claim.released", f"claim:{resource.name}", payload=payload)
    notify(session, [f"claim:{resource.name}"])
    claim_lines.wake_next(session, resource)


def current(session: Session, resource: Resource) -> Claim | None:
    """Return the claim of this very name, which nobody changes before the commit; None if nobody ever claimed it."""
    take_turn(session, resource)
    query = select(Claim).where(Claim.resource == resource.name).execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def holder(session: Session, resource: Resource) -> str | None:
    """Return who holds the claim of this very name, which nobody takes before the commit."""
    take_turn(session, resource)
    held = Claim.released_at.is_(None) & (Claim.expires_at > func.clock_timestamp())
    return session.scalar(select(Claim.holder).where(Claim.resource == resource.name, held))


def require(session: Session, resource: Resource, fencing_token: int) -> None:
    """Pass if the caller holds a claim that covers the resource with this token, which nobody takes over before the commit.

    Raises Refused for a stranger, a lapsed claim or an old token.
    """
    take_turn(session, resource)
    held = (Claim.released_at.is_(None)) & (Claim.expires_at > func.clock_timestamp())
    mine = Claim.resource.in_(resource.covered_by) & (Claim.holder == context(session).actor) & (Claim.fencing_token == fencing_token)
    if session.scalar(select(Claim.resource).where(mine, held)) is None:
        raise _over(session, resource, fencing_token)


def _over(session: Session, resource: Resource, token: int) -> Refused:
    """Return why the caller does not hold the resource with this token."""
    actor = context(session).actor
    held = (Claim.released_at.is_(None)) & (Claim.expires_at > func.clock_timestamp())
    rows = session.scalars(select(Claim).where(Claim.resource.in_(resource.covered_by))).all()
    holding = set(session.scalars(select(Claim.resource).where(Claim.resource.in_(resource.covered_by), held)))
    others: Mapping[str, Any] = {row.resource: row for row in rows if row.resource in holding and row.holder != actor}
    for row in others.values():
        name = f"{resource.name} (as {row.resource})" if row.resource != resource.name else row.resource
        return charter.refused("claim", f"{row.holder} holds {name} until {_when(row.expires_at)}; wait for its release or expiry, then claim it.")
    for row in rows:
        if row.resource in holding and row.resource != resource.name and row.fencing_token == token:
            return charter.refused("claim", f"token {token} is that of your claim on {row.resource}, which covers {resource.name}; extend that one.")
        if row.resource in holding:
            return charter.refused("claim", f"token {token} of {resource.name} is out of date; claim again and look at what has changed since.")
        if row.released_at is None and row.holder == actor:
            return charter.refused("claim", f"your claim on {row.resource} lapsed at {_when(row.expires_at)}; claim it again.")
    return charter.refused("claim", f"nobody holds {resource.name}; claim it first.")


def _when(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
