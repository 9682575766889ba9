"""The asynchronous side of the services: transactions in a few threads, waiting in none; decides nothing itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

import anyio
import psycopg
from anyio import to_thread
from fastmcp.server.dependencies import get_context
from sqlalchemy.orm import Session

from federation.errors import DatabaseUnavailable
from federation.mcp.access import Access
from federation.mcp.issuer import Issuer
from federation.mcp.signing import signatory
from federation.results.options import Options
from federation.results.waiting import Notifications
from federation.security.issuer_keys import issuer_keys
from federation.security.statements import Signatory, Voice
from federation.services import parts
from federation.services.agents import Caller
from federation.settings import Settings
from federation.store.contents import Contents, contents
from federation.transaction import NOTICE_CHANNEL, Transactions, new_trace_id

T = TypeVar("T")
U = TypeVar("U")

# As what the front door does its own work.
PART = parts.DOOR
# As many as the engine has connections to lend, less two.
THREADS = 8
# Apart from them, so that a folder of NFS whose server is away keeps nobody waiting who wants no file.
FILE_THREADS = 4
# A client that asked for progress hears of a wait this often, and so does not give it up.
PROGRESS_S = 5.0
# A notice may be lost with a connection; who waits looks by itself this often.
LOOK_AGAIN_S = 30.0


class Door:
    """What every call needs: transactions, wake-ups, access, settings. One for a process."""

    def __init__(self, transactions: Transactions, settings: Settings, *, database_url: str, token: str | None = None) -> None:
        """Raises SettingsError for an issuer whose keys cannot be used."""
        self.transactions, self.settings = transactions, settings
        # Over stdio the one caller's own key; without one the transactions' voice attests.
        self.voice: Voice | None = None
        self.limiter = anyio.CapacityLimiter(THREADS)
        self.file_limiter = anyio.CapacityLimiter(FILE_THREADS)
        self.contents = contents(settings)
        keys = issuer_keys(settings)
        issuer = None if keys is None else Issuer(settings, keys)
        self.access = Access(transactions, self.limiter, token=token, issuer=issuer)
        self.notifications = Notifications(database_url, channels=[NOTICE_CHANNEL, Options.channel])

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen for as long as the server runs. Raises DatabaseUnavailable."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.notifications)
            except psycopg.OperationalError as error:
                raise DatabaseUnavailable("PostgreSQL does not answer; start it (`federation up`) and call again") from error
            self.transactions.tell = partial(self.notifications.tell, NOTICE_CHANNEL)
            try:
                yield
            finally:
                self.transactions.tell = None

    async def call(self) -> "Call":
        """Return the call that is being made. Raises Unauthenticated, DatabaseUnavailable, IssuerUnavailable, InvalidInput."""
        return Call(self, await self.access.caller(), new_trace_id(), signatory())


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool: who makes it, the trace of all that it causes, and who signs what is stated in it, if its caller does."""

    door: Door
    caller: Caller
    trace_id: str
    signatory: Signatory | None = None

    @property
    def settings(self) -> Settings:
        return self.door.settings

    async def transact(self, work: Callable[[Session], T], *, voice: Voice | None = None) -> T:
        """Do this in one transaction as the caller, who may bring what signs for him. Raises what the services raise, and DatabaseUnavailable."""
        return await to_thread.run_sync(self._transact, work, voice, limiter=self.door.limiter)

    async def transact_then(
        self,
        work: Callable[[Session], T],
        look: Callable[[Session, T], U | None],
        follow: Callable[[Session, T], U],
        *,
        voice: Voice | None = None,
    ) -> tuple[T, U]:
        """Do this as `transact` does, then look, as the front door, which sees all; what it does not find follows in a transaction of the door's.

        The look is statements by themselves. Raises as `transact`.
        """

        def run() -> tuple[T, U]:
            done = self._transact(work, voice)
            with self.door.transactions.single() as session:
                if (found := look(session, done)) is not None:
                    return done, found
            with self.door.transactions.begin(PART, trace_id=self.trace_id) as session:
                return done, follow(session, done)

        # In one thread: each change of threads costs more than what is done there.
        return await to_thread.run_sync(run, limiter=self.door.limiter)

    def _transact(self, work: Callable[[Session], T], voice: Voice | None) -> T:
        speaks = voice or self.signatory or self.door.voice
        with self.door.transactions.begin(self.caller.name, trace_id=self.trace_id, voice=speaks) as session:
            return work(session)

    async def glance(self, work: Callable[[Session], T]) -> T:
        """Do this as the front door, which sees all, by statements alone: for what is known to be the caller's. Raises as `transact`."""

        def run() -> T:
            with self.door.transactions.single() as session:
                return work(session)

        return await to_thread.run_sync(run, limiter=self.door.limiter)

    async def with_files(self, work: Callable[[Contents], T]) -> T:
        """Do this in a thread, in no transaction, with what is in artifacts. Raises what the work raises."""
        return await to_thread.run_sync(work, self.door.contents, limiter=self.door.file_limiter)

    async def until(
        self,
        look: Callable[[Session], T | None],
        *,
        wait_s: float,
        notices: Sequence[str] = (),
        executions: Sequence[UUID] = (),
        waiting: str = "waiting",
        again_s: Callable[[], float] = lambda: LOOK_AGAIN_S,
        news: Callable[[], str | None] = lambda: None,
        begin: Callable[[Session], object] | None = None,
        voice: Voice | None = None,
    ) -> T | None:
        """Look until there is something, again whenever a notice or the end of an execution says so; None after `wait_s` seconds.

        Each look is a transaction, with this voice. With `begin` that is done first, in the one transaction: what it begins is the caller's and tells
        of itself, so nobody looks before, and each look is statements alone. `waiting` is what a client that asked for progress is told meanwhile,
        after a look also the `news`, if there are any; and `again_s` how long after a look it looks by itself.
        """
        take = partial(self.transact, voice=voice) if begin is None else self.glance
        keys: list[tuple[str, str | None]] = [(NOTICE_CHANNEL, notice) for notice in notices]
        keys += [(Options.channel, str(execution)) for execution in executions]
        with self.door.notifications.subscribe_to(keys) as subscription:
            loop = asyncio.get_running_loop()
            found: T | None = None
            if begin is None:
                found = await take(look)
            else:
                await self.transact(begin, voice=voice)
            started = looked = loop.time()
            while found is None:
                if (told := news()) is not None:
                    await get_context().report_progress(round(looked - started, 3), wait_s, told)
                woken = False
                due = min(started + wait_s, looked + again_s())
                while not woken and (now := loop.time()) < due:
                    woken = await subscription.wait(min(PROGRESS_S, due - now))
                    if not woken:
                        await get_context().report_progress(round(loop.time() - started, 3), wait_s, waiting)
                if not woken and loop.time() >= started + wait_s:
                    return None
                # A token that was revoked meanwhile reads nothing more.
                await self.door.access.caller()
                found = await take(look)
                looked = loop.time()
            return found
