"""Keeps parts running: starts them stage by stage, restarts what dies, ends all of them; knows nothing of what they do."""

import contextlib
import itertools
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from types import FrameType

from federation.errors import LocalServiceError
from federation.local import children, interrupts, state
from federation.local.forkserver import ForkServer
from federation.local.home import Home
from federation.local.parts import Part
from federation.local.slot import Backoff, Slot
from federation.local.state import PartState, Phase, View

logger = logging.getLogger(__name__)

_TICK_S = 0.1
_LOG_CHECK_S = 60.0
_TELL_AGAIN_S = 1.0


class _StopRequested(Exception):
    """A signal asked us to end."""


class Supervisor:
    """Runs stages of parts; the parts of a stage start together, and the next stage when all of them answer."""

    def __init__(
        self,
        stages: Sequence[Sequence[Part]],
        home: Home,
        *,
        on_change: Callable[[View], None] = lambda view: None,
        backoff: Backoff | None = None,
        started_by: str = "up",
        notices: Sequence[str] = (),
        forks: ForkServer | None = None,
    ) -> None:
        self._stages = [[Slot(part, home.log(part.name), forks, backoff or Backoff()) for part in stage] for stage in stages]
        self._forks = forks
        self._slots = list(itertools.chain.from_iterable(self._stages))
        self._home, self._on_change, self._started_by, self._notices = home, on_change, started_by, notices
        self._phase = Phase.STARTING
        self._failure: str | None = None
        self._problem: str | None = None
        self._asked = 0
        self._signals, self._wake = socket.socketpair()

    def run(self) -> None:
        """Start everything, keep it running until SIGINT, SIGTERM or SIGHUP, then end it in reverse order.

        Asked again while it ends them, it ends them at once. The caller holds `lock.exclusive`.
        Raises LocalServiceError when a part did not come up the first time; nothing runs then.
        """
        with self._signals_caught():
            try:
                self._boot()
                self._keep()
            except _StopRequested:
                pass
            except LocalServiceError as error:
                self._failure = str(error)
                raise
            finally:
                self._end()

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        def note(signum: int, frame: FrameType | None) -> None:
            self._asked += 1

        self._signals.setblocking(False)
        self._wake.setblocking(False)
        before = {signum: signal.signal(signum, note) for signum in interrupts.signals()}
        # Warns of nothing: a full buffer means that we are awake anyhow.
        old_fd = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_fd)
            for signum, handler in before.items():
                # Asked to end, the process has nothing else to do: who asks again, when all is over, is not to change how it ends.
                signal.signal(signum, signal.SIG_IGN if self._asked else handler)

    def _boot(self) -> None:
        self._rotate()
        self._tell()
        if self._forks:
            # It imports while the first stage starts, which is servers.
            self._forks.prepare()
        for number, stage in enumerate(self._stages):
            while number and self._forks and not self._forks.is_ready():
                self._wait(_TICK_S)
            for slot in stage:
                self._start(slot)
            while not all(slot.state in (PartState.RUNNING, PartState.DONE) for slot in stage):
                self._wait(_TICK_S)
                self._notice_ready()
                for slot in self._dead():
                    self._bury(slot)
                    if slot.state is not PartState.DONE:
                        raise slot.failure()
                for slot in stage:
                    if slot.overdue:
                        raise slot.failure()
        self._phase = Phase.RUNNING
        self._tell()

    def _keep(self) -> None:
        next_log_check = time.monotonic() + _LOG_CHECK_S
        while True:
            self._wait(self._pause())
            self._notice_ready()
            for slot in self._dead():
                self._bury(slot)
                slot.wait_before_restart()
                logger.warning("part.died part=%s how=%s restart_in_s=%.1f", slot.part.name, slot.last_exit, slot.due - time.monotonic())
                self._tell()
            for slot in self._slots:
                if slot.state is PartState.BACKOFF and time.monotonic() >= slot.due:
                    slot.restart()
                    if slot.state is PartState.BACKOFF:
                        pause_s = slot.due - time.monotonic()
                        logger.warning("part.not_started part=%s reason=%s restart_in_s=%.1f", slot.part.name, slot.last_exit, pause_s)
                    self._tell()
                elif slot.overdue and slot.process:
                    slot.insist(at_once=True)
            if self._problem:
                self._tell()
            if time.monotonic() > next_log_check:
                next_log_check = time.monotonic() + _LOG_CHECK_S
                self._rotate()

    def _rotate(self) -> None:
        try:
            for slot in self._slots:
                self._home.rotate(slot.part.name)
        except OSError as error:
            # A full disk must not end what runs; the next look tries again.
            logger.warning("supervisor.logs_not_rotated reason=%s", error)

    def _pause(self) -> float:
        if any(slot.state is PartState.STARTING for slot in self._slots):
            return _TICK_S
        dues = [slot.due - time.monotonic() for slot in self._slots if slot.state is PartState.BACKOFF]
        return max(0.0, min([*dues, _TELL_AGAIN_S if self._problem else _LOG_CHECK_S]))

    def _start(self, slot: Slot) -> None:
        self._raise_if_asked()
        try:
            slot.start()
        except LocalServiceError:
            # A terminal sends Ctrl-C to whatever prepares the part too.
            self._raise_if_asked()
            raise
        except OSError as error:
            raise LocalServiceError(f"{slot.part.name} cannot be started: {error}") from error
        self._tell()

    def _notice_ready(self) -> None:
        # A sum, because any() would stop looking at the first change.
        if sum(slot.look() for slot in self._slots):
            self._tell()

    def _dead(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.gone]

    def _bury(self, slot: Slot) -> None:
        slot.bury()
        self._tell()

    def _wait(self, at_most_s: float) -> None:
        """Sleep until a process ends, a signal comes, or the time is over."""
        self._sleep([slot for slot in self._slots if slot.process], at_most_s)
        self._raise_if_asked()

    def _sleep(self, slots: Iterable[Slot], at_most_s: float) -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            selector.register(self._signals, selectors.EVENT_READ)
            for slot in slots:
                assert slot.process is not None
                try:
                    descriptor = os.pidfd_open(slot.process.pid)
                except ProcessLookupError:
                    # It ended while it was pressed to, which asks how it ended, and then nobody has the pid.
                    return
                stack.callback(os.close, descriptor)
                selector.register(descriptor, selectors.EVENT_READ)
            selector.select(at_most_s)
        with contextlib.suppress(BlockingIOError):
            self._signals.recv(4096)

    def _raise_if_asked(self) -> None:
        if self._asked:
            raise _StopRequested

    def _tell(self) -> None:
        former, self._problem = self._problem, None
        try:
            state.write(self._home, self._view())
        except OSError as error:
            # A full disk must not end what runs. What could not be written is shown, and told again until it is.
            self._problem = former or f"the state could not be written since {datetime.now():%H:%M:%S}: {error}"
        if self._problem and not former:
            logger.warning("supervisor.state_not_written reason=%s", self._problem)
        if former and not self._problem:
            logger.warning("supervisor.state_written_again after=%s", former)
        self._on_change(self._view())

    def _view(self) -> View:
        pid = os.getpid()
        return View(
            pid=pid,
            born=children.birth(pid),
            started_by=self._started_by,
            phase=self._phase,
            failure=self._failure,
            problem=self._problem,
            notices=self._notices,
            parts=[slot.view() for slot in self._slots],
        )

    def _end(self) -> None:
        self._phase = Phase.STOPPING
        asked_before = self._asked
        for stage in reversed(self._stages):
            living = [slot for slot in stage if slot.process]
            for slot in living:
                slot.ask_to_end()
            self._tell()
            while waiting := [slot for slot in living if not slot.gone]:
                pauses = [slot.insist(at_once=self._asked > asked_before) for slot in waiting]
                self._sleep(waiting, min(pauses))
            for slot in living:
                self._bury(slot)
        if self._forks:
            self._forks.stop()
        for slot in self._slots:
            if slot.state is not PartState.DONE:
                slot.become(PartState.STOPPED)
        self._phase = Phase.FAILED if self._failure else Phase.STOPPED
        self._tell()
