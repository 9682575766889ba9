"""The keys that executions are signed with, as this process knows them: read from PostgreSQL when asked to, forgotten within seconds."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from federation.security.signing import PublicKey, parse_public
from federation.services import signers

# After the first it is read anew behind the scenes, after the second nothing goes by it any more.
FRESH_S, LASTS_S = 2.0, 6.0
# Whoever makes up names of keys must not fill the memory.
MOST = 1_000


@dataclass(frozen=True, slots=True)
class KnownSigner:
    """What was found of a key, and when by this process's clock; without a `key` there is none of that name."""

    name: str
    key: PublicKey | None
    revoked_at: datetime | None
    read_at: float


class KnownSigners:
    """Shared by the threads of one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, KnownSigner] = {}

    def get(self, identity: str) -> KnownSigner | None:
        """Return what is known of a key; None where it must be read first."""
        found = self._known.get(identity)
        return found if found is not None and self._clock() - found.read_at < LASTS_S else None

    def last(self, identity: str) -> KnownSigner | None:
        """Return what was known of a valid key last, however long ago: for as long as PostgreSQL is away nobody can revoke it."""
        found = self._known.get(identity)
        return found if found is not None and found.key is not None and found.revoked_at is None else None

    def is_fresh(self, found: KnownSigner) -> bool:
        """Return whether this need not be read anew yet."""
        return self._clock() - found.read_at < FRESH_S

    def read(self, session: Session, identity: str) -> KnownSigner:
        """Read one key."""
        now = self._clock()
        row = signers.known(session, [identity]).get(identity)
        found = KnownSigner("", None, None, now) if row is None else KnownSigner(row.name, _key(row), row.revoked_at, now)
        with self._lock:
            # The one that was read longest ago goes.
            self._known.pop(identity, None)
            while len(self._known) >= MOST:
                self._known.pop(next(iter(self._known)))
            self._known[identity] = found
        return found


def _key(row: signers.SignerView) -> PublicKey | None:
    """Return the key of a row, None if it is not the one that the row is named after."""
    try:
        key = parse_public(row.public_key.encode())
    except ValueError:
        return None
    return key if key.identity == row.identity else None
