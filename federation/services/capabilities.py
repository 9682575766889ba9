"""What agents say they can do: by that name they are asked as «any who can»; it gives no right and is checked by nobody."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.services.names import valid_slug
from federation.store import event_log
from federation.store.context import context
from federation.store.models.agents import Capability

# Each is looked for in open requests whenever its agent joins a conversation.
MOST = 50


def declare(session: Session, names: Sequence[str]) -> bool:
    """Record what the caller can do from now on, all of it; return whether that is anything new. Raises InvalidInput."""
    actor = context(session).actor
    if len(names) > MOST:
        raise InvalidInput("capabilities", f"{len(names)} names", f"at most {MOST}")
    wanted = {valid_slug("capabilities", name) for name in names}
    known = set(of(session, actor))
    if wanted == known:
        return False
    if known - wanted:
        session.execute(delete(Capability).where(Capability.agent == actor, Capability.capability.in_(known - wanted)))
    if wanted - known:
        rows = [{"agent": actor, "capability": name} for name in sorted(wanted - known)]
        session.execute(insert(Capability).values(rows).on_conflict_do_nothing())
    event_log.append(session, "agent.capabilities_declared", f"agent:{actor}", payload={"capabilities": sorted(wanted)})
    return bool(wanted - known)


def of(session: Session, agent: str) -> list[str]:
    """Return what an agent says it can do, in order."""
    return list(session.scalars(select(Capability.capability).where(Capability.agent == agent).order_by(Capability.capability)))


def of_all(session: Session) -> dict[str, list[str]]:
    """Return for each agent that says so what it can do, in order."""
    found: dict[str, list[str]] = {}
    for agent, capability in session.execute(select(Capability.agent, Capability.capability).order_by(Capability.agent, Capability.capability)):
        found.setdefault(agent, []).append(capability)
    return found


def who_can(session: Session, capability: str, among: Collection[str]) -> list[str]:
    """Return who of these says that he can do it, in order."""
    query = select(Capability.agent).where(Capability.capability == capability).order_by(Capability.agent)
    return [name for name in session.scalars(query) if name in among]
