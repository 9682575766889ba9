"""Agents and their tokens: who calls is known from the token alone."""

import hashlib
import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, LargeBinary, String, bindparam, func, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Session

from federation.charter import charter
from federation.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from federation.services.names import valid_agent
from federation.store import event_log
from federation.store.context import context
from federation.store.models.agents import Agent, AgentToken
from federation.store.models.statements import AgentKey

LONGEST_LABEL = 60
TOKEN_PREFIX = "fed_"  # noqa: S105 - what all tokens begin with, so that a leaked one is recognised


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Token:
    """What may be known of a token; `label` says where it is used, `expires_at` None is never."""

    id: uuid.UUID
    agent: str
    label: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def state(self) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= datetime.now(UTC) else "valid"


def valid_role(role: str) -> str:
    """Return the role of this name, which the charter has. Raises NotFound with the nearest that exist."""
    if role not in charter().roles:
        raise NotFound("role", role, charter().roles)
    return role


def add(session: Session, name: str, role: str, *, label: str = "", lasting: timedelta | None = None) -> str:
    """Add an agent and return its token, which is shown this once and lasts so long, None: for ever.

    Raises Conflict if the name is taken, NotFound for an unknown role, InvalidInput for a name that agents cannot have or a label that is too long.
    """
    row = {"name": valid_agent(name), "role": valid_role(role), "created_by": context(session).actor}
    if session.scalar(insert(Agent).values(**row).on_conflict_do_nothing().returning(Agent.name)) is None:
        raise Conflict(f"agent {name!r} exists already; rotate its token with `federation agent rotate {name}`")
    event_log.append(session, "agent.added", f"agent:{name}", payload={"name": name, "role": role})
    return issue_token(session, name, label=label, lasting=lasting)


def issue_token(session: Session, name: str, *, label: str = "", lasting: timedelta | None = None) -> str:
    """Return one more token of an agent, which lasts so long, None: for ever; only its hash is stored.

    Raises NotFound for an unknown agent, InvalidInput for a label that is too long.
    """
    get(session, name)
    if len(label) > LONGEST_LABEL or not label.isprintable():
        raise InvalidInput("label", label, f"at most {LONGEST_LABEL} printable characters, such as the machine that uses the token")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    ends = None if lasting is None else func.clock_timestamp() + lasting
    row = {"agent": name, "token_sha256": digest(token), "label": label, "created_by": context(session).actor, "expires_at": ends}
    stored = session.execute(insert(AgentToken).values(**row).returning(AgentToken.id, AgentToken.expires_at)).one()
    payload = {"name": name, "token": stored.id, "label": label, "expires_at": stored.expires_at}
    event_log.append(session, "agent.token_issued", f"agent:{name}", payload=payload)
    return token


def rotate(session: Session, name: str, *, label: str | None = None, lasting: timedelta | None = None) -> str:
    """Revoke the tokens of an agent, or those of this label alone, and return a new one. Raises NotFound."""
    get(session, name)
    # Of two rotations at once, the second must see the token that the first has made, or both would be valid.
    session.execute(select(Agent.name).where(Agent.name == name).with_for_update())
    _revoke(session, name, AgentToken.label == label if label is not None else true())
    return issue_token(session, name, label=label or "", lasting=lasting)


def lasting_before(session: Session, name: str, *, label: str | None = None, otherwise: timedelta | None = None) -> timedelta | None:
    """Return how long the latest of the tokens lasts that a rotation replaces, None: for ever; `otherwise` where there is none. Raises NotFound."""
    for token in tokens(session, name):
        if token.revoked_at is None and label in (None, token.label):
            return None if token.expires_at is None else token.expires_at - token.created_at
    return otherwise


def revoke(session: Session, name: str, *, token: str | None = None) -> int:
    """Revoke the tokens of an agent, or the one whose id begins so; return how many there were.

    Raises NotFound for an unknown agent or token, Conflict for a beginning that several tokens share.
    """
    get(session, name)
    if token is None:
        return _revoke(session, name, true())
    known = [str(one.id) for one in tokens(session, name)]
    found = [one for one in known if one.startswith(token.lower())]
    if not found or not token:
        raise NotFound("token", token, known)
    if len(found) > 1:
        raise Conflict(f"{len(found)} tokens of {name} begin with {token!r}; give more of the id")
    return _revoke(session, name, AgentToken.id == uuid.UUID(found[0]))


def _revoke(session: Session, name: str, which: ColumnElement[bool]) -> int:
    revoked = session.scalars(
        update(AgentToken)
        .where(AgentToken.agent == name, AgentToken.revoked_at.is_(None), which)
        .values(revoked_at=func.clock_timestamp())
        .returning(AgentToken.id)
    ).all()
    payload = {"name": name, "tokens": len(revoked), "ids": sorted(map(str, revoked))}
    event_log.append(session, "agent.tokens_revoked", f"agent:{name}", payload=payload)
    return len(revoked)


def tokens(session: Session, name: str) -> list[Token]:
    """Return what may be known of the tokens of an agent, the latest first. Raises NotFound."""
    get(session, name)
    columns = [getattr(AgentToken, field.name) for field in fields(Token)]
    query = select(*columns).where(AgentToken.agent == name).order_by(AgentToken.created_at.desc(), AgentToken.id)
    return [Token(**row) for row in session.execute(query).mappings()]


_VALID = (AgentToken.revoked_at.is_(None), AgentToken.expires_at.is_(None) | (AgentToken.expires_at > func.clock_timestamp()))
# Made once: it is asked every few seconds for all agents that call.
_WHOSE = (
    select(AgentToken.token_sha256, Agent.name, Agent.role)
    .join(AgentToken, AgentToken.agent == Agent.name)
    .where(AgentToken.token_sha256 == func.any(bindparam("digests", type_=ARRAY(LargeBinary))), *_VALID)
)


def digest(token: str) -> bytes:
    """Return what a token is known by: who reads it cannot call with it."""
    return hashlib.sha256(token.encode()).digest()


def authenticate(session: Session, token: str) -> Caller:
    """Return whose token this is. Raises Unauthenticated for an unknown, expired or revoked one."""
    found = whose(session, [digest(token)])
    if not found:
        raise Unauthenticated("the token is unknown, expired or revoked")
    return found[digest(token)]


def whose(session: Session, digests: Iterable[bytes]) -> dict[bytes, Caller]:
    """Return whose the tokens of these digests are, without those that are unknown, expired or revoked."""
    rows = session.execute(_WHOSE, {"digests": list(digests)})
    return {row.token_sha256: Caller(name=row.name, role=row.role) for row in rows}


def get(session: Session, name: str) -> Agent:
    """Return an agent. Raises NotFound with the nearest names."""
    agent = session.get(Agent, name)
    if agent is None:
        raise NotFound("agent", name, names(session))
    context(session).kept.append(agent)
    return agent


# Made once, and no whole agents: it is asked with most that is done.
_ROLES = select(Agent.name, Agent.role).where(Agent.name == func.any(bindparam("names", type_=ARRAY(String))))


def role_of(session: Session, name: str) -> str:
    """Return the role of an agent, which is looked up once in a transaction. Raises NotFound with the nearest names."""
    roles = look_up(session, [name])
    if name not in roles:
        raise NotFound("agent", name, names(session))
    return roles[name]


def look_up(session: Session, wanted: Sequence[str]) -> Mapping[str, str]:
    """Look up the roles of several agents at once, so that `role_of` need not ask for each; return those that are known so far."""
    roles = context(session).roles
    if asked := [name for name in wanted if name not in roles]:
        for name, role in session.execute(_ROLES, {"names": asked}):
            roles[name] = role
    return roles


def names(session: Session, *, role: str | None = None) -> list[str]:
    """Return the names of agents, in order."""
    query = select(Agent.name).order_by(Agent.name)
    return list(session.scalars(query if role is None else query.where(Agent.role == role)))


@dataclass(frozen=True, slots=True)
class Listed:
    """An agent, and how many keys it can sign with and tokens it can call with now."""

    name: str
    role: str
    created_by: str
    created_at: datetime
    keys: int
    tokens: int


def everybody(session: Session) -> list[Listed]:
    """Return all agents, in order of name."""
    keys = select(func.count()).where(AgentKey.agent == Agent.name, AgentKey.revoked_at.is_(None)).scalar_subquery()
    valid = select(func.count()).where(AgentToken.agent == Agent.name, *_VALID).scalar_subquery()
    columns = (Agent.name, Agent.role, Agent.created_by, Agent.created_at, keys.label("keys"), valid.label("tokens"))
    return [Listed(**row) for row in session.execute(select(*columns).order_by(Agent.name)).mappings()]


def require(value: str | None, field: str) -> str:
    """Return a text that must not be empty. Raises InvalidInput."""
    if value is None or not value.strip():
        raise InvalidInput(field, value, "a text that is not empty")
    return value
