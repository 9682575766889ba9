"""One part as the supervisor holds it: its process, its state, when it may start again; decides nothing about the others."""

import logging
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from federation.errors import LocalServiceError
from federation.local import children, parts
from federation.local.forkserver import ForkServer
from federation.local.state import PartState, PartView

logger = logging.getLogger(__name__)

_SELDOM_S = 0.5
# What must end at once and does not is killed.
_DIES_WITHIN_S = 5.0


@dataclass(frozen=True)
class Backoff:
    """How long a part that died waits: the first time, at most, and how long it must live to count as sound again (seconds)."""

    first_s: float = 0.5
    most_s: float = 60.0
    settled_s: float = 60.0


@dataclass
class Slot:
    """A part and its present process."""

    part: parts.Part
    log: Path
    forks: ForkServer | None = None
    backoff: Backoff = field(default_factory=Backoff)
    state: PartState = PartState.WAITING
    process: children.Process | None = None
    restarts: int = 0
    last_exit: str | None = None
    since: float = field(default_factory=time.time)
    started: float = 0.0
    due: float = 0.0
    _delay_s: float = 0.0
    # By the very signal that ends it in good order, which nobody sends to himself.
    _was_asked: bool = False
    _next_look: float = 0.0
    _patience_ends: float = 0.0
    _pressed: bool = False

    def view(self) -> PartView:
        """Return what others may know."""
        pid = self.process.pid if self.process else None
        return PartView(self.part.name, self.state, pid, children.birth(pid) if pid else None, self.restarts, self.last_exit, self.since)

    def become(self, state: PartState) -> None:
        """Change the state and note when."""
        self.state, self.since = state, time.time()

    def start(self) -> None:
        """Prepare and spawn; raises LocalServiceError or OSError when that fails."""
        self.part.prepare()
        self.process = parts.spawn(self.part, self.log, self.forks)
        self.started = self._next_look = time.monotonic()
        self._patience_ends, self._pressed = 0.0, False
        self.become(PartState.STARTING)

    def look(self) -> bool:
        """Note a change since the last look, and say whether there was one; a process that is gone is left to `bury`."""
        if self.state is not PartState.STARTING or self.process is None or self.process.poll() is not None or self.part.once:
            return False
        now = time.monotonic()
        if now < self._next_look:
            return False
        # A question costs the machine something just while everything starts: ask less often what takes long.
        self._next_look = now + min(_SELDOM_S, (now - self.started) / 10)
        try:
            if not self.part.is_ready():
                return False
        except Exception as error:  # noqa: BLE001 - whatever a question meets while a part starts, the part is not ready
            logger.info("part.not_ready part=%s reason=%s", self.part.name, error)
            return False
        self.become(PartState.RUNNING)
        return True

    @property
    def gone(self) -> bool:
        """Whether its process has ended and nobody has noted it yet."""
        return self.process is not None and self.process.poll() is not None

    @property
    def overdue(self) -> bool:
        """Whether it should have answered by now."""
        return self.state is PartState.STARTING and time.monotonic() > self.started + self.part.ready_within_s

    def ask_to_end(self) -> None:
        """Ask the process to end in good order, within the part's grace."""
        assert self.process is not None
        self.process.send_signal(self.part.stop_signal)
        self._patience_ends, self._pressed = time.monotonic() + self.part.grace_s, False
        self.become(PartState.STOPPING)

    def insist(self, *, at_once: bool) -> float:
        """Press a process that was asked to end and outlives its grace, or is to end at once: first with the part's death signal, then with SIGKILL.

        Returns the seconds until it is to be pressed again.
        """
        assert self.process is not None
        if self._patience_ends <= time.monotonic() or (at_once and not self._pressed):
            self.process.send_signal(signal.SIGKILL if self._pressed else self.part.death_signal)
            self._patience_ends, self._pressed = time.monotonic() + _DIES_WITHIN_S, True
        return max(0.0, self._patience_ends - time.monotonic())

    def bury(self) -> None:
        """Note how the process ended, and end what it left of its group."""
        assert self.process is not None
        status = self.process.wait()
        children.signal_group(self.process.pid, signal.SIGKILL)
        self.process = None
        self._was_asked = not self._pressed and status in (-self.part.stop_signal, 128 + self.part.stop_signal)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        self.last_exit = f"{how}, as asked" if self.state is PartState.STOPPING and not self._pressed else how
        self.become(PartState.DONE if self.part.once and status == 0 else PartState.STOPPED)

    def wait_before_restart(self) -> None:
        """Put the next start off, twice as long as the last time unless it had lived well, or somebody has asked it to end."""
        lived_well = self._was_asked or time.monotonic() - self.started > self.backoff.settled_s
        first_s = self.backoff.first_s if self.part.back_after_s is None else self.part.back_after_s
        self._delay_s = first_s if lived_well or not self._delay_s else min(2 * self._delay_s, self.backoff.most_s)
        self.due = time.monotonic() + self._delay_s
        self.become(PartState.BACKOFF)

    def restart(self) -> None:
        """Start again, which is counted unless somebody has asked it to end; a failure to start counts as a death."""
        self.restarts += not self._was_asked
        try:
            self.start()
        except Exception as error:  # noqa: BLE001 - one part that cannot start must not end the others
            self.last_exit, self._was_asked = str(error), False
            self.started = time.monotonic()
            self.wait_before_restart()

    def failure(self) -> LocalServiceError:
        """Return the error that tells why the part did not come up."""
        story = self.last_exit or f"did not answer within {self.part.ready_within_s:g} s"
        return LocalServiceError(f"{self.part.name}: {story}; the end of {self.log}:\n{parts.tail(self.log)}")
