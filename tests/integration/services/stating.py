"""Who states something in these tests, and with whose key."""

import uuid
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.security.signing import SigningKey
from federation.security.statements import Draft, KeyVoice, Presented, Signed, Statement, Voice
from federation.services import approvals, statements, task_claims, tasks
from federation.services.approvals import Decision
from federation.store.models.tasks import AgentTask
from federation.transaction import Transactions

DOOR = "service:door"


def made() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.generate())


@dataclass(frozen=True)
class Team:
    """The agents' keys, that of the front door, and what they do with them."""

    transactions: Transactions
    url: str
    ada: SigningKey
    bob: SigningKey
    door: SigningKey

    def signs(self, name: str) -> KeyVoice:
        return KeyVoice(getattr(self, name), DOOR if name == "door" else name)

    def parked(self, slug: str = "gate") -> uuid.UUID:
        with self.transactions.begin("bob") as session:
            return tasks.delegate(session, "Restart the cache", slug=slug, requires_approval=True).id

    def decide(self, decision: Decision, voice: Voice | None, *, reason: str = "because", who: str = "ada", slug: str = "gate") -> AgentTask:
        with self.transactions.begin(who, voice=voice) as session:
            return approvals.decide(session, slug, decision, reason=reason)

    def claimed(self) -> tuple[uuid.UUID, int]:
        with self.transactions.begin("ada") as session:
            task_id = tasks.delegate(session, "Profile the memory", slug="work").id
        with self.transactions.begin("bob") as session:
            return task_id, task_claims.claim(session, "work", description="", ttl_s=600).fencing_token or 0

    def complete(self, token: int, voice: Voice | None, *, success: bool = True, leaks: float | str = 0) -> AgentTask:
        with self.transactions.begin("bob", voice=voice) as session:
            return task_claims.complete(session, "work", fencing_token=token, result={"leaks": leaks}, success=success)

    def stated(self, subject: uuid.UUID) -> list[tuple[str, str, str, str | None]]:
        with self.transactions.begin("test:hand") as session:
            found = statements.about(session, f"task:{subject}")
        return [(one.actor, one.choice, one.mode, one.attested_by) for one in found]

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query).fetchall()


def by_hand(key: SigningKey, said: Draft, *, attested_by: str | None = None) -> Presented:
    text = Statement(**asdict(said), key=key.public.identity, attested_by=attested_by).text
    return Presented(Signed(text, key.sign(text.encode())))
