"""The first signal interrupts, and no further one disturbs what is done about it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from federation.local.interrupts import Interrupts, signals

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back what an interrupted process would not need any more."""
    before = {signum: signal.getsignal(signum) for signum in ALL}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", ALL)
def test_first_signal_interrupts_and_further_ones_count(signum: int) -> None:
    ended = False
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        try:
            os.kill(os.getpid(), signum)
        except KeyboardInterrupt:
            for again in ALL:
                os.kill(os.getpid(), again)
            ended = True
            raise
    assert ended
    assert interrupts.count == 4
    # Not even when all is done and the process is about to end.
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", ALL)
def test_interrupt_waits_until_the_block_ends(signum: int) -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts, interrupts.put_off():
        os.kill(os.getpid(), signum)
        reached.append(signum)
    assert reached == [signum]


def test_former_handlers_are_back_afterwards() -> None:
    before = {signum: signal.getsignal(signum) for signum in ALL}
    with Interrupts():
        assert {signum: signal.getsignal(signum) for signum in ALL} != before
    assert {signum: signal.getsignal(signum) for signum in ALL} == before


def test_closed_terminal_is_no_reason_under_nohup() -> None:
    program = "import signal; from federation.local.interrupts import signals; print(signal.SIGHUP in signals())"
    without = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    under = subprocess.run(["nohup", sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert (without.stdout, under.stdout) == ("True\n", "False\n")
    assert signal.SIGHUP in signals()
