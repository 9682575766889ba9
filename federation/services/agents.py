"""Agents and their tokens: who calls is known from the token alone."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from federation.services.names import valid_agent
from federation.store import event_log
from federation.store.context import context
from federation.store.models.agents import Agent, AgentToken, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    name: str
    role: str


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def valid_role(role: str) -> Role:
    """Return the role of this name. Raises NotFound with the nearest that exist."""
    try:
        return Role(role)
    except ValueError as error:
        raise NotFound("role", role, Role) from error


def add(session: Session, name: str, role: str, *, expires_at: datetime | None = None) -> str:
    """Add an agent and return its token, which is shown this once.

    Raises Conflict if the name is taken, NotFound for an unknown role.
    """
    row = {"name": valid_agent(name), "role": valid_role(role), "created_by": context(session).actor}
    if session.scalar(insert(Agent).values(**row).on_conflict_do_nothing().returning(Agent.name)) is None:
        raise Conflict(f"agent {name!r} exists already; rotate its token with `federation agent rotate {name}`")
    event_log.append(session, "agent.added", f"agent:{name}", payload={"name": name, "role": role})
    return issue_token(session, name, expires_at=expires_at)


def issue_token(session: Session, name: str, *, expires_at: datetime | None = None) -> str:
    """Return a new token of an agent; only its hash is stored."""
    get(session, name)
    token = "fed_" + secrets.token_urlsafe(32)
    session.add(AgentToken(agent=name, token_sha256=_hash(token), created_by=context(session).actor, expires_at=expires_at))
    event_log.append(session, "agent.token_issued", f"agent:{name}", payload={"name": name, "expires_at": expires_at})
    return token


def rotate(session: Session, name: str) -> str:
    """Revoke all tokens of an agent and return a new one."""
    get(session, name)
    # Of two rotations at once, the second must see the token that the first has made, or both would be valid.
    session.execute(select(Agent.name).where(Agent.name == name).with_for_update())
    revoke(session, name)
    return issue_token(session, name)


def revoke(session: Session, name: str) -> int:
    """Revoke all tokens of an agent; return how many there were."""
    get(session, name)
    revoked = session.scalars(
        update(AgentToken)
        .where(AgentToken.agent == name, AgentToken.revoked_at.is_(None))
        .values(revoked_at=func.clock_timestamp())
        .returning(AgentToken.id)
    ).all()
    event_log.append(session, "agent.tokens_revoked", f"agent:{name}", payload={"name": name, "tokens": len(revoked)})
    return len(revoked)


def authenticate(session: Session, token: str) -> Caller:
    """Return whose token this is. Raises Unauthenticated for an unknown, expired or revoked one."""
    row = session.execute(
        select(Agent.name, Agent.role)
        .join(AgentToken, AgentToken.agent == Agent.name)
        .where(
            AgentToken.token_sha256 == _hash(token),
            AgentToken.revoked_at.is_(None),
            AgentToken.expires_at.is_(None) | (AgentToken.expires_at > func.clock_timestamp()),
        )
    ).one_or_none()
    if row is None:
        raise Unauthenticated("the token is unknown, expired or revoked")
    return Caller(name=row.name, role=row.role)


def get(session: Session, name: str) -> Agent:
    """Return an agent. Raises NotFound with the nearest names."""
    agent = session.get(Agent, name)
    if agent is None:
        raise NotFound("agent", name, names(session))
    return agent


def names(session: Session, *, role: str | None = None) -> list[str]:
    """Return the names of agents, in order."""
    query = select(Agent.name).order_by(Agent.name)
    return list(session.scalars(query if role is None else query.where(Agent.role == role)))


def everybody(session: Session) -> list[Agent]:
    """Return all agents, in order of name."""
    return list(session.scalars(select(Agent).order_by(Agent.name)))


def require(value: str | None, field: str) -> str:
    """Return a text that must not be empty. Raises InvalidInput."""
    if value is None or not value.strip():
        raise InvalidInput(field, value, "a text that is not empty")
    return value
