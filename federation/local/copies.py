"""One program as several processes: forks that go on where they were made; the parent keeps them, and does nothing else."""

import logging
import os
import signal
import time
from typing import NoReturn

from federation.local import interrupts
from federation.local.children import die_with_parent

logger = logging.getLogger(__name__)

# One that dies sooner than that is not made again before.
_LIVES_S = 1.0


def multiply(count: int) -> int:
    """Return in each of `count` forks with its number, counted from 0; never in the parent.

    A fork that a signal killed is made again. One that ended by itself has said why: the parent ends the others, and exits with its status. A signal
    that asks the parent to end is passed on, and ends it when all have ended. Forks end with their parent, however it ends. The caller has one
    thread, and nothing open that two may not share.
    """
    parent = _Parent(count)
    for number in range(count):
        if parent.fork(number):
            return number
    return parent.keep()


class _Parent:
    def __init__(self, count: int) -> None:
        self._asking = interrupts.signals()
        # Not handled but waited for, so that none comes between a look and the wait.
        self._former = signal.pthread_sigmask(signal.SIG_BLOCK, [*self._asking, signal.SIGCHLD])
        self._living: dict[int, int] = {}
        self._due = dict.fromkeys(range(count), 0.0)

    def fork(self, number: int) -> bool:
        """Return whether this is the fork."""
        ask_to_die = die_with_parent()
        pid = os.fork()
        if pid:
            self._living[pid] = number
            self._due[number] = time.monotonic() + _LIVES_S
            return False
        ask_to_die()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._former)
        return True

    def keep(self) -> int:
        """Return the number of a fork that is made again, in that fork; the parent ends here."""
        absent: set[int] = set()
        while True:
            asked = self._wait(min((self._due[number] for number in absent), default=None))
            if asked is not None:
                self._end(asked)
            for pid, status in self._ended():
                number = self._living.pop(pid)
                if status >= 0:
                    self._end(signal.SIGTERM, status=status)
                logger.warning("copies.died number=%d how=%s", number, signal.Signals(-status).name)
                absent.add(number)
            for number in [each for each in absent if time.monotonic() >= self._due[each]]:
                absent.remove(number)
                if self.fork(number):
                    return number

    def _wait(self, until: float | None) -> signal.Signals | None:
        """Return a signal that asks to end, None where a fork may have ended or the moment is there."""
        waited = [*self._asking, signal.SIGCHLD]
        info = signal.sigwaitinfo(waited) if until is None else signal.sigtimedwait(waited, max(0.0, until - time.monotonic()))
        return None if info is None or info.si_signo == signal.SIGCHLD else signal.Signals(info.si_signo)

    def _ended(self) -> list[tuple[int, int]]:
        """Return the forks that have ended and how, a signal as a negative number."""
        looked = [os.waitpid(pid, os.WNOHANG) for pid in self._living]
        return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in looked if pid]

    def _end(self, asked: signal.Signals, *, status: int | None = None) -> NoReturn:
        """End all, and then as a process that does the work itself would: by the signal, or with a fork's status."""
        # A terminal sends Ctrl-C to the forks too, and a second one means at once.
        self._tell(signal.SIGTERM)
        while self._living:
            again = self._wait(None)
            if again is not None:
                asked = again
                self._tell(again)
            for pid, _ in self._ended():
                del self._living[pid]
        if status is not None:
            raise SystemExit(status)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._former)
        signal.raise_signal(asked)
        raise SystemExit(128 + asked)

    def _tell(self, signum: signal.Signals) -> None:
        for pid in self._living:
            os.kill(pid, signum)
