"""Keys that agents sign statements with: public halves, each one agent's; a key is registered once, revoked once, never replaced or taken back."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import Conflict, NotFound
from federation.security.signing import PublicKey
from federation.services import agents, signers
from federation.store import event_log
from federation.store.models.statements import AgentKey


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key and whose it is; `public_key` is PEM."""

    identity: str
    agent: str
    public_key: str
    created_by: str
    created_at: datetime
    revoked_at: datetime | None

    @property
    def state(self) -> str:
        """Return `valid` or `revoked`."""
        return "valid" if self.revoked_at is None else "revoked"


_COLUMNS = [getattr(AgentKey, field.name) for field in fields(KeyView)]


def register(session: Session, agent: str, key: PublicKey) -> KeyView:
    """Make a key of an agent known, unless it is, and return what is recorded of it: it may be revoked.

    Raises NotFound for an unknown agent, Conflict for a key that is another's.
    """
    agents.get(session, agent)
    # Whoever holds the key of a part could sign executions in anybody's name.
    if parts := signers.known(session, [key.identity]):
        raise Conflict(f"key {key.identity[:16]} is that of {parts[key.identity].name}, which signs executions with it; make one of {agent}'s own")
    row = {"identity": key.identity, "agent": agent, "public_key": key.pem}
    if session.scalar(insert(AgentKey).values(**row).on_conflict_do_nothing().returning(AgentKey.identity)) is not None:
        payload = {"identity": key.identity, "name": agent, "public_key": key.pem}
        event_log.append(session, "agent.key_added", f"agent:{agent}", payload=payload)
    found = session.execute(select(*_COLUMNS).where(AgentKey.identity == key.identity)).mappings().one()
    if found["agent"] != agent:
        raise Conflict(f"key {key.identity[:16]} is {found['agent']}'s; a key speaks for one agent: make one of {agent}'s own")
    return KeyView(**found)


def of(session: Session, agent: str) -> list[KeyView]:
    """Return the keys of an agent, revoked or not, the latest first. Raises NotFound."""
    agents.get(session, agent)
    query = select(*_COLUMNS).where(AgentKey.agent == agent).order_by(AgentKey.created_at.desc(), AgentKey.identity)
    return [KeyView(**row) for row in session.execute(query).mappings()]


def revoke(session: Session, agent: str, reference: str | None = None) -> Sequence[KeyView]:
    """Revoke the keys of an agent, or the one whose identity begins so; return them as they are now.

    What was stated with them before stays stated. Raises NotFound, Conflict for a beginning that several keys share or for keys that are
    revoked already.
    """
    known = of(session, agent)
    found = [one for one in known if reference is None or (reference and one.identity.startswith(reference.lower()))]
    if not found:
        raise NotFound("key", reference or f"of {agent}", [one.identity[: signers.SHOWN] for one in known])
    if reference is not None and len(found) > 1:
        raise Conflict(f"{len(found)} keys of {agent} begin with {reference!r}; give more of the identity, as `federation agent key list` shows it")
    identities = [one.identity for one in found]
    # Waits for those who are stating something with it, so that the log tells first what was stated and then of the end of the key.
    ended = update(AgentKey).where(AgentKey.identity.in_(identities), AgentKey.revoked_at.is_(None)).values(revoked_at=func.clock_timestamp())
    rows = session.scalars(ended.returning(AgentKey.identity)).all()
    if not rows:
        raise Conflict(f"{'that key' if reference else 'each key'} of {agent} is revoked already")
    for identity in rows:
        event_log.append(session, "agent.key_revoked", f"agent:{agent}", payload={"identity": identity, "name": agent})
    return [one for one in of(session, agent) if one.identity in rows]
