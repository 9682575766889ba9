"""Work for a whole federation: steps that a door records, and tasks that agents delegate, claim and complete; each until it is told done."""

import asyncio
import itertools
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from celery import Celery
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError
from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.delivery import app as configuration
from federation.errors import TransientError
from federation.services import task_claims, tasks
from federation.store import outbox
from federation.store.fixed_ids import fixed_id
from federation.transaction import Transactions

T = TypeVar("T")

AGAIN_S = 0.2
# So many steps of a door are under way at most, as if it waited for answers: the recovery from a fault is not that of a backlog which grew meanwhile.
MOST_UNDER_WAY = 10
_DONE = text("SELECT task_id FROM celery_results WHERE task_id = ANY(:ids) AND state = ANY(ARRAY['SUCCESS', 'FAILURE', 'REVOKED'])")
# An agent that would hang on one call for ever would look like lost work.
CALL_S = 60.0
# Longer than any fault keeps a claim from being decided, and it from being used.
TTL_S, DECIDED_WITHIN_S = 900.0, 240.0
# Of a worker that is late: so many of its calls, of what it was refused, and of the lines where its thread is, from the inside.
CALLS_SHOWN, REFUSALS_SHOWN, FRAMES_SHOWN = 12, 3, 6


class Calls:
    """How long somebody's last calls took, which were in vain, and in which he stands: it tells one call that hangs from many slow ones."""

    def __init__(self) -> None:
        self._last: deque[str] = deque(maxlen=CALLS_SHOWN)
        self._stands: tuple[str, float] | None = None

    @contextmanager
    def call(self, what: str) -> Iterator[None]:
        """Note what the block does."""
        began = time.monotonic()
        self._stands = what, began
        came = ""
        try:
            yield
        except BaseException as error:
            came = f" in vain ({error!r:.200})"
            raise
        finally:
            self._stands = None
            self._last.append(f"{what}: {time.monotonic() - began:.1f} s{came}")

    def __str__(self) -> str:
        stands = self._stands
        now = [f"stands for {time.monotonic() - stands[1]:.1f} s in {stands[0]}"] if stands else ["in no call"]
        # Copied: it may go on meanwhile.
        return "; ".join([*self._last.copy(), *now])


class Worker(threading.Thread):
    """A thread whose error is kept for the test."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None
        self.told: list[int] = []
        # What those were told who had to ask again.
        self.refusals: list[str] = []
        self.calls = Calls()

    def standing(self) -> str:
        """Return what it has done, how long each call of it took, what it was refused last, and where it is."""
        frame = sys._current_frames().get(self.ident or 0)
        inside = [line for line in traceback.extract_stack(frame) if "site-packages" not in line.filename] if frame else []
        lines = [f"{line.filename}:{line.lineno} {line.name}" for line in inside[-FRAMES_SHOWN:]]
        return "\n    ".join([f"{self.name}, {len(self.told)} told", *self.accounts(), *self.refusals[-REFUSALS_SHOWN:], *lines])

    def accounts(self) -> list[str]:
        """Return what is known of its calls, a line for each that makes some."""
        return [str(self.calls)]

    def run(self) -> None:
        """Work until the numbers are used up."""
        try:
            self.work()
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.failure = error

    def work(self) -> None:
        """What is done."""
        raise NotImplementedError

    def until_recorded(self, transactions: Transactions, who: str, write: Callable[[Session], T]) -> T:
        """Write in one transaction, again until its commit is confirmed."""
        while True:
            try:
                with self.calls.call(f"a transaction of {who}"), transactions.begin(who) as session:
                    return write(session)
            except TransientError as error:
                self.refusals.append(str(error))
                time.sleep(AGAIN_S)


class Steps(Worker):
    """Records executions as a door does: the same one again until the commit is confirmed."""

    def __init__(self, transactions: Transactions, numbers: Iterator[int], *, seconds: float, every_s: float) -> None:
        super().__init__("steps")
        self._transactions, self._numbers, self._seconds, self._every_s = transactions, numbers, seconds, every_s
        self._under_way: set[str] = set()

    def work(self) -> None:
        """Record one step after the other."""
        for number in self._numbers:
            began = time.monotonic()
            identity = fixed_id("step", number)
            kwargs = {"number": number, "seconds": self._seconds}
            record = partial(outbox.record, task_name="tests.step", kwargs=kwargs, execution_id=identity, requirements={"tags": ["steps"]})
            self.until_recorded(self._transactions, "ada", record)
            self.told.append(number)
            self._under_way.add(str(identity))
            while len(self._under_way) >= MOST_UNDER_WAY:
                self._under_way -= self._done()
                time.sleep(AGAIN_S)
            time.sleep(max(0.0, began + self._every_s - time.monotonic()))

    def _done(self) -> set[str]:
        try:
            with self._transactions.begin("ada") as session:
                return set(session.scalars(_DONE, {"ids": sorted(self._under_way)}))
        except TransientError:
            return set()


class Rivals(Worker):
    """Two agents without MCP, in transactions of their own: one delegates a task, who wins its claim through the queue completes it.

    Each `CONTESTED`-th task is claimed by both at once, the others by the second alone.
    """

    CONTESTED = 4

    def __init__(self, app: Celery, transactions: Transactions, names: tuple[str, str], numbers: Iterator[int]) -> None:
        super().__init__(f"rivals {names}")
        self._app, self._transactions, self._names, self._numbers = app, transactions, names, numbers
        configuration.load(app)

    def work(self) -> None:
        """Do one task after the other."""
        for number in self._numbers:
            self._do(f"task-{number}", self._names if number % self.CONTESTED == 0 else self._names[1:])
            self.told.append(number)

    def _do(self, slug: str, claimants: Sequence[str]) -> None:
        delegate = partial(tasks.delegate, description=f"Do {slug}.", slug=slug)
        task = self.until_recorded(self._transactions, self._names[0], lambda session: delegate(session).id)
        asks = {"task_id": str(task), "description": "", "ttl_s": TTL_S}
        claim = partial(outbox.record, task_name=task_claims.CLAIM, kwargs=asks, priority=10)
        asked = [(who, self.until_recorded(self._transactions, who, claim)) for who in claimants]
        with self.calls.call(f"the decision who holds {slug}"):
            decided = [(who, self._app.AsyncResult(str(identity)).get(timeout=DECIDED_WITHIN_S)) for who, identity in asked]
        won = [(who, outcome["fencing_token"]) for who, outcome in decided if outcome["claimed"]]
        assert len(won) == 1, f"not one of them holds {slug}: {decided}"
        [(holder, token)] = won
        done = partial(task_claims.complete, reference=slug, fencing_token=token, result={"done": slug})
        self.until_recorded(self._transactions, holder, lambda session: done(session).id)


class Seat:
    """One agent's place at the front door; it is taken again whenever the connection is lost."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._client: Client[Any] | None = None
        self.calls = Calls()

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call until there is an answer that is not «later»."""
        while True:
            try:
                if self._client is None:
                    self._client = Client(StreamableHttpTransport(self._url, auth=self._token), timeout=CALL_S)
                    with self.calls.call("connecting"):
                        await self._client.__aenter__()
                with self.calls.call(tool):
                    return (await self._client.call_tool(tool, arguments)).data
            except ToolError as error:
                if "again" not in str(error):
                    raise
            except Exception:  # noqa: BLE001 - whatever a client makes of a door that is gone
                await self.leave()
            await asyncio.sleep(AGAIN_S)

    async def leave(self) -> None:
        """Part from the door, which may be gone."""
        client, self._client = self._client, None
        if client is not None:
            try:
                await asyncio.wait_for(client.close(), 5)
            except Exception:  # it was broken before
                logging.getLogger(__name__).debug("client.broken", exc_info=True)


class Agents(Worker):
    """Two agents over MCP: one delegates a task, the other claims it and completes it with its fencing token.

    For one of so many tasks both claim at once, and who wins completes it.
    """

    def __init__(self, url: str, tokens: tuple[str, str], numbers: Iterator[int], *, every_s: float) -> None:
        super().__init__("agents")
        self._seats = [Seat(url, token) for token in tokens]
        self._numbers, self._every_s = numbers, every_s

    def accounts(self) -> list[str]:
        """Return those of both agents."""
        return [str(seat.calls) for seat in self._seats]

    def work(self) -> None:
        """Do one task after the other."""
        asyncio.run(self._work())

    async def _work(self) -> None:
        # Each lost connection tells of itself; here they are what is wanted.
        logging.getLogger("mcp").setLevel(logging.CRITICAL)
        for number in self._numbers:
            began = time.monotonic()
            await self._do(f"task-{number}", self._seats)
            self.told.append(number)
            await asyncio.sleep(max(0.0, began + self._every_s - time.monotonic()))
        for seat in self._seats:
            await seat.leave()

    async def _do(self, slug: str, claimants: Sequence[Seat]) -> None:
        await self._seats[0].call("federation_delegate", description=f"Do {slug}.", task_id=slug, executor="agent")
        claims = await asyncio.gather(*(seat.call("federation_claim_task", task_id=slug) for seat in claimants))
        winners = [number for number, claim in enumerate(claims) if claim.claimed]
        assert len(winners) == 1, f"not one of them holds {slug}: {claims}"
        [winner] = winners
        holder = claimants[winner]
        done = {"task_id": slug, "fencing_token": claims[winner].fencing_token, "result": {"done": slug}}
        try:
            await holder.call("federation_complete_task", **done)
        except ToolError:
            # The answer to a former try was lost, and that try was the one that counted.
            status = await holder.call("federation_task_status", task_id=slug)
            if status.state != "completed":
                raise


def numbers_until(most: int, ended: Callable[[], bool] = lambda: False) -> Iterator[int]:
    """Count from 0, shared by threads, until so many or until it has ended."""
    counted = itertools.count()
    lock = threading.Lock()

    class Shared:
        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            with lock:
                number = next(counted)
            if number >= most or ended():
                raise StopIteration
            return number

    return Shared()
