"""How a part is made to end: in good order, then at once without loss, then by the kernel."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from federation.local import children, slot
from federation.local.parts import Part
from federation.local.slot import Slot

Begin = Callable[[str], Slot]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a shell that has run this and waits."""
    made: list[children.Process] = []

    def start(script: str) -> Slot:
        log = tmp_path / "log"
        held = Slot(Part(name="part", command=["sh", "-c", f"{script} echo ready; while :; do sleep 1; done"], death_signal=signal.SIGUSR1), log)
        held.start()
        assert held.process
        made.append(held.process)
        assert children.wait_until(lambda: "ready" in log.read_text(), 60)
        return held

    yield start
    for process in made:
        children.stop(process, signal.SIGKILL)


def ended(held: Slot) -> str | None:
    assert children.wait_until(lambda: held.gone, 60)
    held.bury()
    return held.last_exit


def test_asked_it_ends_in_good_order(begin: Begin) -> None:
    held = begin("")
    held.ask_to_end()
    assert ended(held) == "signal SIGTERM, as asked"


def test_within_its_grace_it_is_left_in_peace(begin: Begin) -> None:
    held = begin("trap '' TERM;")
    held.ask_to_end()
    assert 0 < held.insist(at_once=False) <= held.part.grace_s
    assert not held.gone
    held.insist(at_once=True)
    assert ended(held) == "signal SIGUSR1"


def test_overdue_it_gets_the_signal_that_loses_nothing(begin: Begin) -> None:
    held = begin("")
    held.insist(at_once=True)
    assert ended(held) == "signal SIGUSR1"


def test_deaf_to_all_it_is_killed(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "_DIES_WITHIN_S", 0.0)
    held = begin("trap '' TERM USR1;")
    held.ask_to_end()
    for _ in range(2):
        held.insist(at_once=True)
    assert ended(held) == "signal SIGKILL"


def test_who_dies_again_waits_longer_and_who_was_asked_to_end_does_not_and_is_no_dead(begin: Begin) -> None:
    waits = []
    held = begin("")
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
        assert held.process
        held.process.send_signal(number)
        ended(held)
        before = time.monotonic()
        held.wait_before_restart()
        waits.append(round(held.due - before, 1))
        held.restart()
    assert (waits, held.restarts) == ([0.5, 1.0, 0.5, 0.5], 2)
    assert held.process
    children.stop(held.process, signal.SIGKILL)
    late = replace(held, part=replace(held.part, back_after_s=7.5), _delay_s=0.0)
    late.wait_before_restart()
    assert late.due - time.monotonic() > 7
