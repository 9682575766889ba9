"""Beat: heartbeats, summaries and memories that are due, the outbox, outcomes, votes, tasks, relayed events, seals; one acts, others stand by."""

import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import FrameType
from typing import Any

import psycopg
from celery import Celery
from celery.beat import Scheduler
from sqlalchemy import Select, false, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from federation.delivery import publisher
from federation.delivery.app import database_url, service_url
from federation.delivery.bailiff import Bailiff
from federation.delivery.hanging import end_what_hangs
from federation.delivery.inbound import Inbound
from federation.delivery.leadership import Leadership
from federation.delivery.rebalance import Rebalancer
from federation.delivery.relay import Relay
from federation.delivery.runtime import Runtime, build
from federation.delivery.sealing import Sealer, seals_folder
from federation.delivery.sending import send
from federation.delivery.signer import LOOK_AGAIN_S, act_as
from federation.errors import TransientError
from federation.placement.node import NodeView
from federation.services import (
    cached_answers,
    claim_lines,
    consolidation,
    decisions,
    escalations,
    executions,
    graph,
    indexing,
    memory_care,
    nodes,
    parts,
    summaries,
    task_ends,
)
from federation.settings import settings

logger = logging.getLogger(__name__)

HEARTBEAT = "federation.tasks.cop.heartbeat"

ACTOR = parts.BEAT
STANDBY_S = 2.0
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 15.0
OUTCOMES_S = 5.0
# So late at most a vote ends after its deadline, and a task after its time.
VOTES_S = TASKS_S = 1.0
# What should be embedded and is not waits for minutes.
MEMORIES_S = 60.0
# So late at most what was said is in the graph.
GRAPH_S = 5.0
# A vote or a task that cannot be ended is tried again after so long.
FAILED_AGAIN_S = 60.0
CLEANUP_S = 3600.0
COMPACT_EVERY = timedelta(minutes=30)


@dataclass(slots=True)
class Job:
    """Something that is done every so many seconds, or again after as many as it says itself."""

    name: str
    every_s: float
    action: Callable[[], float | None]
    next_at: float = 0.0


def _look(escalate_after: timedelta | None) -> Select[bool, bool, bool, bool]:
    """Return the question whether there are votes and tasks whose time is over, tasks that nobody took, and executions to send."""
    return select(
        decisions.ANY_DUE.label("votes"),
        task_ends.ANY_OVERDUE.label("tasks"),
        (escalations.any_due(escalate_after) if escalate_after else false()).label("untaken"),
        publisher.ANY_DUE.label("unsent"),
    )


class FederationScheduler(Scheduler):
    """Celery's scheduler for `beat_schedule`, with the federation's own jobs beside it."""

    def __init__(self, app: Celery, *args: Any, **kwargs: Any) -> None:
        given = settings()
        act_as(ACTOR)
        url = service_url(given)
        self._runtime: Runtime = build(url)
        end_what_hangs(self._runtime.transactions.engine)
        self._stale_s, self._heartbeat_s, self._summary_window = given.node_stale_s, given.heartbeat_s, given.summary_window
        self._escalate_after = timedelta(seconds=given.escalate_s) if given.escalate_s else None
        self._leadership = Leadership(self._runtime.transactions.engine, _look(self._escalate_after))
        self._rebalancer = Rebalancer(app, self._runtime.transactions, stale_s=given.node_stale_s)
        self._sealer = Sealer(self._runtime.transactions, folder=seals_folder(given))
        amqp: Any = app.amqp
        self._jobs = [
            # So that the key is known before it signs something, and that it was revoked is said where it is looked for.
            Job("key", LOOK_AGAIN_S, amqp.signer.register),
            Job("heartbeats", given.heartbeat_s, self._send_heartbeats),
            Job("summaries", given.summary_check_s, self._request_summaries),
            Job("memories", MEMORIES_S, self._embed_again),
            Job("graph", GRAPH_S, self._read_on),
            Job("outbox", given.outbox_sweep_s, self._sweep),
            Job("outcomes", OUTCOMES_S, self._note_outcomes),
            Job("votes", VOTES_S, self._end_votes),
            Job("tasks", TASKS_S, self._end_tasks),
            Job("escalations", TASKS_S, self._escalate),
            Job("seals", given.seal_s, self._sealer.seal),
            Job("compaction", COMPACT_EVERY.total_seconds(), self._request_compaction),
            Job("lines", CLEANUP_S, self._forget_absent),
            Job("consolidation", CLEANUP_S, self._request_consolidation),
            Job("answers", CLEANUP_S, self._drop_answers),
            Job("results", CLEANUP_S, self._clean_up),
        ]
        self._retry_s = FIRST_RETRY_S
        # Since when this beat acts, and the period in which it last sent heartbeats.
        self._since: datetime | None = None
        self._sent_in: int | None = None
        # What could not be done, and when it is tried again.
        self._failed: dict[uuid.UUID, float] = {}
        self._told_to_end: bool | None = None
        self._relay = Relay(app, self._runtime.transactions, listen_url=url)
        self._bailiff = Bailiff(self._runtime.transactions)
        # Where no agent speaks STOMP, it need not act for agents.
        self._inbound = Inbound(app, lambda: build(url, agents=database_url(given)).transactions) if given.database_url else None
        super().__init__(app, *args, **kwargs)

    def install_default_entries(self, data: Any) -> None:
        """Install none: results are cleaned up here, not by a task on a queue that nobody consumes."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Do what is due; return the seconds until the next look. Raises KeyboardInterrupt when beat is told to end."""
        # Not where it is made: a beat that detaches forks after that, and Celery sets its own handlers.
        if self._told_to_end is None:
            self._begin()
        next_s = self._do_what_is_due(*args, **kwargs)
        # A connection that is closed with its statement under way has an error of its own, in the place of what interrupted it.
        if self._told_to_end:
            raise KeyboardInterrupt
        return next_s

    def _begin(self) -> None:
        self._told_to_end = False
        # Celery's own handler closes, in the middle of whatever is done, connections that this uses.
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, self._end)
        self._relay.start()
        self._bailiff.start()
        if self._inbound is not None:
            self._inbound.start()

    def _end(self, signum: int, frame: FrameType | None) -> None:
        self._told_to_end = True
        raise KeyboardInterrupt

    def _do_what_is_due(self, *args: Any, **kwargs: Any) -> float:
        try:
            self._since = self._leadership.since()
            if self._since is None:
                return STANDBY_S
            due = [job for job in self._jobs if time.monotonic() >= job.next_at]
            # Each has its turn, whatever became of the one before it.
            done = [self._run(job) for job in due]
            if not all(done):
                return self._backed_off_s()
        except (TransientError, DBAPIError, psycopg.Error) as error:
            self._deferred(error)
            return self._backed_off_s()
        except Exception:  # beat must live; the next look may be better
            logger.exception("beat.failed retry_s=%g", self._retry_s)
            return self._backed_off_s()
        self._retry_s = FIRST_RETRY_S
        soonest = min(job.next_at for job in self._jobs) - time.monotonic()
        return max(0.0, min(soonest, super().tick(*args, **kwargs)))

    def close(self) -> None:
        self._relay.stop()
        self._bailiff.stop()
        if self._inbound is not None:
            self._inbound.stop()
        self._leadership.release()
        super().close()

    @property
    def info(self) -> str:
        return "    . jobs -> " + ", ".join(f"{job.name} every {job.every_s:g} s" for job in self._jobs)

    def _run(self, job: Job) -> bool:
        """Return whether the job was done."""
        # At multiples, so that what is due in the same second is done in one look.
        job.next_at = (time.monotonic() // job.every_s + 1) * job.every_s
        try:
            again_in_s = job.action()
            if again_in_s is not None:
                job.next_at = time.monotonic() + again_in_s
        except (TransientError, DBAPIError, psycopg.Error) as error:
            self._deferred(error)
            return False
        except Exception:  # it has its next turn as any other
            logger.exception("beat.job_failed", extra={"job": job.name})
        return True

    def _deferred(self, error: Exception) -> None:
        logger.warning("beat.deferred reason=%s retry_s=%g", str(error).partition("\n")[0], self._retry_s)

    def _backed_off_s(self) -> float:
        delay_s, self._retry_s = self._retry_s, min(self._retry_s * 2, LONGEST_RETRY_S)
        return delay_s

    def _look_at_nodes(self) -> tuple[list[NodeView], datetime]:
        """Return all nodes, and the database's time."""
        with self._runtime.transactions.begin(ACTOR) as session:
            lost = nodes.record_lost(session, stale_s=self._stale_s)
            known = nodes.views(session, stale_s=self._stale_s)
            now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        for name in lost:
            logger.warning("node.lost", extra={"node": name})
        return known, now

    def _send_heartbeats(self) -> float:
        """Send each node its heartbeat of this period, once, whichever beats act in it; return the seconds until the next period."""
        known, now = self._look_at_nodes()
        period = self._period(now)
        assert self._since is not None
        # What was sent in a period is written nowhere: the one in which this beat took over is left to who acted before it.
        if period not in (self._sent_in, self._period(self._since)):
            # First, because what fails half-way is no reason to send the rest twice.
            self._sent_in = period
            for node in known:
                self._send_heartbeat(node.name, period)
        self._rebalancer.rebalance(known)
        return self._heartbeat_s - now.timestamp() % self._heartbeat_s

    def _period(self, moment: datetime) -> int:
        """Return the number of a period of heartbeats; all beats count alike, by the database's clock."""
        return int(moment.timestamp() // self._heartbeat_s)

    def _request_summaries(self) -> None:
        # Recorded in beat's own name; a window that was asked for before is the same execution.
        with self._runtime.transactions.begin(ACTOR) as session:
            due = summaries.request_due(session, window=self._summary_window)
        if due:
            logger.info("summaries.due", extra={"windows": len(due)})

    def _embed_again(self) -> None:
        with self._runtime.transactions.begin(ACTOR) as session:
            again, given_up = memory_care.embed_again(session)
        if again or given_up:
            logger.warning("memories.unembedded", extra={"again": again, "given_up": given_up})

    def _request_compaction(self) -> None:
        with self._runtime.transactions.begin(ACTOR) as session:
            indexing.request_compaction(session, every=COMPACT_EVERY)

    def _request_consolidation(self) -> None:
        # Of one agent once a day, however often this asks.
        with self._runtime.transactions.begin(ACTOR) as session:
            due = consolidation.request_due(session)
        if due:
            logger.info("memories.consolidation", extra={"agents": due})

    def _read_on(self) -> float | None:
        with self._runtime.transactions.begin(ACTOR) as session:
            more = graph.read_on(session)
        # Of a long log in the next look, so that other jobs have their turn.
        return 0.0 if more else None

    def _send_heartbeat(self, node: str, period: int) -> None:
        # What repeats by itself need survive nothing: not persistent, soon expired, without a result.
        send(
            self.app,
            HEARTBEAT,
            {"node": node},
            # One name for the one heartbeat of a node in a period, whoever sends it.
            execution_id=uuid.uuid5(uuid.NAMESPACE_OID, f"{HEARTBEAT} {node} {period} {self._heartbeat_s:g}"),
            queue=node,
            priority=9,
            expires_s=2 * self._heartbeat_s,
            persistent=False,
            ignore_result=True,
        )

    def _sweep(self) -> None:
        if self._leadership.seen.unsent and (sent := self._runtime.publisher.sweep()):
            logger.info("outbox.swept", extra={"sent": sent})

    def _note_outcomes(self) -> None:
        with self._runtime.transactions.begin(ACTOR) as session:
            executions.note_outcomes(session)

    def _end_votes(self) -> None:
        """End each vote whose time is over in a transaction of its own, so that one that cannot be ended holds up no other."""
        if self._leadership.seen.votes:
            self._each(decisions.due, decisions.settle)

    def _end_tasks(self) -> None:
        if self._leadership.seen.tasks:
            self._each(task_ends.overdue, task_ends.expire)

    def _escalate(self) -> None:
        """Tell of tasks that nobody has taken in time."""
        if (after := self._escalate_after) is not None and self._leadership.seen.untaken:
            self._each(partial(escalations.due, after=after), partial(escalations.escalate, after=after))

    def _each(self, due: Callable[..., Sequence[uuid.UUID]], do: Callable[[Session, uuid.UUID], object]) -> None:
        """Do this for each that is due in a transaction of its own; raise the last error when all had their turn.

        What failed is left out for a while, so that no number of these keeps others from their turn.
        """
        now = time.monotonic()
        self._failed = {one: again_at for one, again_at in self._failed.items() if again_at > now}
        with self._runtime.transactions.begin(ACTOR) as session:
            over = due(session, but=list(self._failed))
        failed: Exception | None = None
        for one in over:
            try:
                with self._runtime.transactions.begin(ACTOR) as session:
                    do(session, one)
            except Exception as error:  # whatever is wrong with one, the others have their turn
                logger.exception("beat.not_done", extra={"id": str(one)})
                self._failed[one] = now + FAILED_AGAIN_S
                failed = error
        if failed is not None:
            raise failed

    def _forget_absent(self) -> None:
        with self._runtime.transactions.begin(ACTOR) as session:
            claim_lines.forget_absent(session)

    def _drop_answers(self) -> None:
        with self._runtime.transactions.begin(ACTOR) as session:
            cached_answers.drop(session)

    def _clean_up(self) -> None:
        with self._runtime.transactions.begin(ACTOR) as session:
            executions.keep_outcomes(session)
        backend: Any = self.app.backend
        # With the database away beat goes on; the next hour cleans up.
        backend.always_retry = False
        backend.cleanup()
