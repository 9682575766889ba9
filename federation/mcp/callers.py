"""Whose a token is, our own or the issuer's: remembered for seconds, so that a revoked one dies soon; knows no protocol."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from federation.errors import DatabaseUnavailable, InvalidInput, NotFound, Unauthenticated
from federation.services import agents, parts
from federation.services.agents import Caller
from federation.services.names import valid_agent
from federation.transaction import Transactions

if TYPE_CHECKING:
    # It loads FastMCP, which who takes no JWTs need not.
    from federation.mcp.issuer import Issuer

logger = logging.getLogger(__name__)

# How long a revoked token may live on.
REMEMBER_S = 3.0
# With the database away no token can be looked up, but who was known may learn why nothing works: each tool needs the database too.
REMEMBER_WITHOUT_DATABASE_S = 600.0
_MOST_TOKENS = 4096
# No agent can have this name: it looks tokens up, which agents may not.
_ACTOR = parts.DOOR


@dataclass(slots=True)
class _Known:
    """Whose a token is, as it was found; `used`: when it was shown last; `ours`: it is none of the issuer's."""

    caller: Caller
    ours: bool
    at: float
    used: float


@dataclass(frozen=True, slots=True)
class _Look:
    """Tokens that are being looked up, by their digests."""

    digests: frozenset[bytes]
    found: asyncio.Future[dict[bytes, Caller]]


class Callers:
    """Finds out whose token it is."""

    def __init__(self, transactions: Transactions, limiter: anyio.CapacityLimiter, *, issuer: "Issuer | None" = None) -> None:
        self._transactions, self._limiter = transactions, limiter
        self._issuer = issuer
        self._known: dict[bytes, _Known] = {}
        self._looking: _Look | None = None

    async def authenticate(self, token: str) -> Caller:
        """Return whose token this is. Raises Unauthenticated, and for one that was not seen lately DatabaseUnavailable and IssuerUnavailable."""
        # The digest and not the token, so that a dump of this process tells no tokens that came by once.
        digest = agents.digest(token)
        known = self._known.get(digest)
        now = time.monotonic()
        age = now - known.at if known else float("inf")
        if known:
            known.used = now
            if age < REMEMBER_S:
                return known.caller
        try:
            return await self._ask(token, digest)
        except DatabaseUnavailable:
            if known and age < REMEMBER_WITHOUT_DATABASE_S:
                return known.caller
            raise
        except Unauthenticated:
            self._known.pop(digest, None)
            raise

    async def _ask(self, token: str, digest: bytes) -> Caller:
        if self._issuer is None or token.startswith(agents.TOKEN_PREFIX):
            return await self._look_up(digest)
        name = await self._issuer.name(token)
        if name is None:
            raise Unauthenticated("the JWT is not valid here")
        caller = await to_thread.run_sync(self._known_agent, name, limiter=self._limiter)
        self._remember(digest, caller, ours=False)
        return caller

    async def _look_up(self, digest: bytes) -> Caller:
        """Look up one of our own tokens, and all that are in use with it: what many agents show is asked once every few seconds."""
        while (look := self._looking) is None or digest not in look.digests:
            if look is None:
                in_use = (each for each, known in self._known.items() if known.ours and known.used > known.at)
                digests = frozenset((digest, *in_use))
                finding = asyncio.ensure_future(self._found(digests))
                # Whoever asked may have gone.
                finding.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._looking = _Look(digests, finding)
            else:
                await asyncio.wait([look.found])
        # Others wait for it too, and are not to lose it with this one.
        caller = (await asyncio.shield(look.found)).get(digest)
        if caller is None:
            raise Unauthenticated("the token is unknown, expired or revoked")
        return caller

    async def _found(self, digests: frozenset[bytes]) -> dict[bytes, Caller]:
        try:
            found = await to_thread.run_sync(self._whose, digests, limiter=self._limiter)
        finally:
            self._looking = None
        for digest in digests - found.keys():
            self._known.pop(digest, None)
        for digest, caller in found.items():
            self._remember(digest, caller, ours=True)
        return found

    def _remember(self, digest: bytes, caller: Caller, *, ours: bool) -> None:
        if len(self._known) >= _MOST_TOKENS:
            self._known.clear()
        now = time.monotonic()
        self._known[digest] = _Known(caller, ours, now, now)

    def _whose(self, digests: frozenset[bytes]) -> dict[bytes, Caller]:
        with self._transactions.begin(_ACTOR) as session:
            return agents.whose(session, digests)

    def _known_agent(self, name: str) -> Caller:
        with self._transactions.begin(_ACTOR) as session:
            try:
                agent = agents.get(session, valid_agent(name))
            except (InvalidInput, NotFound) as error:
                logger.warning("access.unknown_agent: the issuer vouches for somebody who was not added here", extra={"agent": name})
                raise Unauthenticated("no agent of this name was added") from error
            return Caller(name=agent.name, role=agent.role)
