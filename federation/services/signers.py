"""Signers: whose keys sign executions, and for which services; a key is registered once, revoked once, and never replaced or taken back."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from federation.errors import Conflict, NotFound
from federation.security.signing import PublicKey
from federation.services import parts
from federation.store import event_log
from federation.store.models.signers import Service, Signer

# In hexadecimal digits of a key's identity; more than enough to tell a federation's keys apart.
SHOWN = 16


@dataclass(frozen=True, slots=True)
class SignerView:
    """A key and what it belongs to; `public_key` is PEM."""

    identity: str
    name: str
    public_key: str
    created_by: str
    created_at: datetime
    revoked_at: datetime | None

    @property
    def state(self) -> str:
        """Return `valid` or `revoked`."""
        return "valid" if self.revoked_at is None else "revoked"


_COLUMNS = [getattr(Signer, field.name) for field in fields(SignerView)]


def register(session: Session, name: str, key: PublicKey) -> SignerView:
    """Make a key known, unless it is, and return what is recorded of it: it may be revoked, or be known by another name."""
    row = {"identity": key.identity, "name": name, "public_key": key.pem}
    if session.scalar(insert(Signer).values(**row).on_conflict_do_nothing().returning(Signer.identity)) is not None:
        payload = {"identity": key.identity, "name": name, "public_key": key.pem}
        event_log.append(session, "signer.registered", f"signer:{key.identity}", payload=payload)
    return known(session, [key.identity])[key.identity]


def register_services(session: Session, name: str, identity: str) -> None:
    """Make known which services of the program act in this part, so that its key signs for them, unless it is known."""
    rows = [{"name": service, "signer": identity, "role": parts.ROLE} for service in parts.acting_in(name)]
    made = session.scalars(insert(Service).values(rows).on_conflict_do_nothing().returning(Service.name))
    for service in made.all():
        event_log.append(session, "service.registered", f"signer:{identity}", payload={"name": service, "role": parts.ROLE})


def services(session: Session) -> dict[str, list[str]]:
    """Return the names of the services that each key signs for, by its identity."""
    found: dict[str, list[str]] = {}
    for row in session.execute(select(Service.signer, Service.name).order_by(Service.name)):
        found.setdefault(row.signer, []).append(row.name)
    return found


def known(session: Session, identities: Collection[str]) -> dict[str, SignerView]:
    """Return those of these keys that are registered, revoked or not."""
    rows = session.execute(select(*_COLUMNS).where(Signer.identity.in_(identities))).mappings()
    return {row["identity"]: SignerView(**row) for row in rows}


def everybody(session: Session) -> list[SignerView]:
    """Return all keys, by name, the latest first."""
    query = select(*_COLUMNS).order_by(Signer.name, Signer.created_at.desc(), Signer.identity)
    return [SignerView(**row) for row in session.execute(query).mappings()]


def revoke(session: Session, reference: str) -> Sequence[SignerView]:
    """Revoke the keys of this name, or, where it is none, the one whose identity begins so; return them as they are now.

    Raises NotFound with what there is, Conflict for a beginning that several keys share or for keys that are revoked already.
    """
    # An exact name first: what somebody's identity begins with keeps no name from being found.
    found = _chosen(session, Signer.name == reference) or _chosen(session, Signer.identity.startswith(reference.lower(), autoescape=True))
    if not found or not reference:
        signers = everybody(session)
        raise NotFound("signer", reference, [*(one.name for one in signers), *(one.identity[:SHOWN] for one in signers)])
    if len(found) > 1 and any(one.name != reference for one in found):
        raise Conflict(f"{len(found)} keys begin with {reference!r}; give more of the identity, as `federation signer list` shows it")
    ended = _end(session, Signer.identity.in_([one.identity for one in found]))
    if not ended:
        raise Conflict(f"{reference} is revoked already")
    for one in ended:
        event_log.append(session, "signer.revoked", f"signer:{one.identity}", payload={"identity": one.identity, "name": one.name})
    return ended


def end_all(session: Session, name: str) -> Sequence[SignerView]:
    """Revoke all keys of this name that are valid, however many, and return them; who calls records it, as one event."""
    return _end(session, Signer.name == name)


def _chosen(session: Session, which: ColumnElement[bool]) -> list[SignerView]:
    return [SignerView(**row) for row in session.execute(select(*_COLUMNS).where(which)).mappings()]


def _end(session: Session, which: ColumnElement[bool]) -> list[SignerView]:
    ended = update(Signer).where(which, Signer.revoked_at.is_(None)).values(revoked_at=func.clock_timestamp()).returning(*_COLUMNS)
    return [SignerView(**row) for row in session.execute(ended).mappings()]
