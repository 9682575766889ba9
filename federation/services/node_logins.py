"""Logins of nodes: who was let in until when, and who was shut out; what lets them in stands at PostgreSQL and ActiveMQ, and in no row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.services import signers
from federation.services.signers import SignerView
from federation.store import event_log

_END_HINDERING = text("SELECT node, bool_and(ended) AS ended FROM federation_end_hindering(:after, CAST(:locks AS bigint[])) GROUP BY node")


def record_admitted(session: Session, node: str, *, expires_at: datetime | None, renewed: bool) -> None:
    """Record that a node has a login, until then; `renewed` is one that ended those before."""
    event_log.append(session, "node.admitted", f"node:{node}", payload={"expires_at": expires_at, "renewed": renewed})


def record_removed(session: Session, node: str) -> Sequence[SignerView]:
    """Record that a node has no login any more, revoke the keys that it signs with, and return those that were valid; one event tells of all."""
    name = f"node:{node}"
    ended = signers.end_all(session, name)
    event_log.append(session, "node.removed", name, payload={"keys": sorted(one.identity for one in ended)})
    return ended


def end_expired(session: Session) -> Mapping[str, int]:
    """End what nodes have open at PostgreSQL whose day has come, which it looks at only when they log in; return how many sessions of each."""
    return Counter(session.scalars(text("SELECT federation_end_expired()")))


def end_hindering(session: Session, *, after_s: float, locks: Sequence[int]) -> Mapping[str, bool]:
    """End what nodes have open that others have waited for so long, or that holds one of these advisory locks.

    Returns whose it was, and whether it could be ended.
    """
    values = {"after": timedelta(seconds=after_s), "locks": list(locks)}
    return {row.node: row.ended for row in session.execute(_END_HINDERING, values)}
