"""Keys that agents sign statements with: public halves, each one agent's; a key is registered once, revoked once, never replaced or taken back."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import Conflict, NotFound
from federation.security.signing import PublicKey
from federation.services import agents, charter, signers
from federation.store import event_log, turns
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


@dataclass(frozen=True, slots=True)
class Known:
    """Whose a key is, an agent's or a part's of the federation."""

    owner: str
    public_key: str
    revoked_at: datetime | None


# Who signs may not see the keys of others; the function tells of one to whoever names it.
_WHOSE = text("SELECT whose, pem, ended_at FROM federation_key(:identity)")
_COLUMNS = [getattr(AgentKey, field.name) for field in fields(KeyView)]


def whose(session: Session, identity: str) -> Known | None:
    """Return whose a key is, None if it is nobody's; it cannot be revoked before the caller's commit."""
    row = session.execute(_WHOSE, {"identity": identity}).one_or_none()
    return None if row is None else Known(*row)


def register(session: Session, agent: str, key: PublicKey) -> KeyView:
    """Make a key of an agent known, unless it is, and return what is recorded of it: it may be revoked.

    Raises NotFound for an unknown agent, Conflict for a key that is another's.
    """
    agents.get(session, agent)
    _require_free(session, agent, key)
    row = {"identity": key.identity, "agent": agent, "public_key": key.pem}
    if session.scalar(insert(AgentKey).values(**row).on_conflict_do_nothing().returning(AgentKey.identity)) is not None:
        payload = {"identity": key.identity, "name": agent, "public_key": key.pem}
        event_log.append(session, "agent.key_added", f"agent:{agent}", payload=payload)
    else:
        _require_free(session, agent, key)  # two may have registered it at once
    found = session.execute(select(*_COLUMNS).where(AgentKey.identity == key.identity)).mappings().one()
    return KeyView(**found)


def register_first(session: Session, agent: str, key: PublicKey) -> bool:
    """Make the first key of an agent known; False, and nothing is done, for who has one, valid or revoked.

    Whoever holds a token of an agent that has a key gets no other one known so. Raises as `register`.
    """
    turns.take(session, f"agent_keys:{agent}")
    if of(session, agent):
        return False
    register(session, agent, key)
    return True


def _require_free(session: Session, agent: str, key: PublicKey) -> None:
    known = whose(session, key.identity)
    if known is None or known.owner == agent:
        return
    if not charter.is_agent(known.owner):
        # Whoever holds the key of a part could sign executions in anybody's name.
        raise Conflict(f"key {key.identity[:16]} is that of {known.owner}, which signs executions with it; make one of {agent}'s own")
    raise Conflict(f"key {key.identity[:16]} is {known.owner}'s; a key speaks for one agent: make one of {agent}'s own")


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
