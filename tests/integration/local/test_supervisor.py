"""The supervisor over real processes: order, restarts, and that nothing survives it, however it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from federation.local import checks, children, state
from federation.local.checks import Verdict
from federation.local.home import Home
from federation.local.state import PartState, Phase, View
from federation.settings import Settings

STANDINS = Path(__file__).with_name("standins.py")
WITHIN_S = 90.0


class Federation:
    """A supervisor of stand-ins in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "data")
        self.process: subprocess.Popen[str] | None = None

    def start(self, *flags: str) -> subprocess.Popen[str]:
        self.process = subprocess.Popen([sys.executable, STANDINS, self.home.data_dir, *flags], stderr=subprocess.PIPE, text=True)
        return self.process

    def view(self) -> View | None:
        return state.read(self.home)

    def part_state(self, name: str) -> PartState | None:
        view = self.view()
        return next((part.state for part in view.parts if part.name == name), None) if view else None

    def is_back(self, name: str, former: int) -> bool:
        """Whether a part runs as another process, by one look: between two it may die."""
        view = self.view()
        assert view
        part = next(part for part in view.parts if part.name == name)
        return part.state is PartState.RUNNING and part.pid not in (None, former)

    def pid(self, name: str) -> int:
        view = self.view()
        assert view
        pid = next(part.pid for part in view.parts if part.name == name)
        assert pid
        return pid

    def wait_running(self) -> None:
        assert children.wait_until(lambda: (view := self.view()) is not None and view.phase is Phase.RUNNING, WITHIN_S)

    def pids(self) -> set[int]:
        """Every process of ours: parts and what they started."""
        view = self.view()
        assert view
        groups = {part.pid for part in view.parts if part.pid}
        return {
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and children.is_alive(int(entry.name)) and os.getpgid(int(entry.name)) in groups
        }


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    started = Federation(tmp_path)
    yield started
    if started.process and started.process.poll() is None:
        started.process.terminate()
        started.process.communicate(timeout=WITHIN_S)


def all_dead(pids: set[int]) -> bool:
    return children.wait_until(lambda: not any(children.is_alive(pid) for pid in pids), WITHIN_S)


def test_stop_leaves_no_process_not_even_a_stubborn_grandchild(federation: Federation) -> None:
    process = federation.start()
    federation.wait_running()
    pids = federation.pids()
    assert len(pids) == 5  # web, parent and its child, stubborn and its child
    process.send_signal(signal.SIGINT)
    assert process.wait(WITHIN_S) == 0
    # Nobody is left to end them now; one that was killed may still wait for a processor to die on.
    assert all_dead(pids)
    view = federation.view()
    assert view
    assert view.phase is Phase.STOPPED


def test_killed_supervisor_takes_its_parts_and_their_children_along(federation: Federation) -> None:
    process = federation.start()
    federation.wait_running()
    pids = federation.pids()
    process.kill()
    process.wait(WITHIN_S)
    assert all_dead(pids)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_second_signal_does_not_wait_for_the_slow(federation: Federation, first: signal.Signals) -> None:
    process = federation.start("slow")
    federation.wait_running()
    pids = federation.pids()
    process.send_signal(first)
    assert children.wait_until(lambda: federation.part_state("stubborn") is PartState.STOPPING, WITHIN_S)
    process.send_signal(signal.SIGINT)
    assert process.wait(WITHIN_S) == 0
    # Nobody is left to end them now; one that was killed may still wait for a processor to die on.
    assert all_dead(pids)
    view = federation.view()
    assert view
    # The signal that loses nothing came before the last resort.
    assert {part.name: part.last_exit for part in view.parts}["stubborn"] == "signal SIGUSR1"


def test_who_asks_until_it_is_gone_does_not_change_how_it_ends(federation: Federation) -> None:
    process = federation.start()
    federation.wait_running()
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    assert process.wait() == 0


def test_killed_part_is_started_again_and_shown(federation: Federation) -> None:
    federation.start()
    federation.wait_running()
    victim = federation.pid("web")
    os.kill(victim, signal.SIGKILL)

    def is_back() -> bool:
        view = federation.view()
        assert view
        part = next(part for part in view.parts if part.name == "web")
        return part.state is PartState.RUNNING and part.pid != victim and part.restarts == 1 and part.last_exit == "signal SIGKILL"

    assert children.wait_until(is_back, WITHIN_S)


def doctor(federation: Federation) -> list[tuple[Verdict, str]]:
    """Return what the doctor says of the parts."""
    return [(finding.verdict, finding.saw) for finding in checks.running_parts(Settings(data_dir=federation.home.data_dir))]


def test_doctor_fails_while_a_part_is_dead_and_names_it_its_log_and_what_to_do(federation: Federation) -> None:
    assert doctor(federation) == []
    federation.start("patient")
    federation.wait_running()
    assert doctor(federation) == [(Verdict.OK, "all 4 that `federation up` started run")]
    os.kill(federation.pid("parent"), signal.SIGKILL)
    assert children.wait_until(lambda: federation.part_state("parent") is PartState.BACKOFF, WITHIN_S)
    [(verdict, saw)] = doctor(federation)
    log = federation.home.log("parent")
    assert verdict is Verdict.FAIL
    assert saw.startswith("parent is dead since ")
    assert saw.endswith(f" (signal SIGKILL), and the last that {log} says is: ready")

    command = [sys.executable, "-m", "federation.cli.main", "doctor", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")}
    environment |= {"FEDERATION_DATA_DIR": str(federation.home.data_dir)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=WITHIN_S)
    assert done.returncode == 1, done.stderr
    [told] = [check for check in json.loads(done.stdout)["checks"] if check["check"] == "parts"]
    assert (told["verdict"], told["saw"]) == ("fail", saw)
    assert str(log) in told["remedy"]


def test_doctor_warns_of_a_part_that_died_a_moment_ago_and_fails_for_one_that_does_so_again(federation: Federation) -> None:
    federation.start()
    federation.wait_running()
    for restarts, verdict in ((1, Verdict.WARN), (2, Verdict.FAIL)):
        victim = federation.pid("web")
        os.kill(victim, signal.SIGKILL)

        assert children.wait_until(partial(federation.is_back, "web", victim), WITHIN_S)
        [(said, saw)] = doctor(federation)
        assert (said, saw.startswith("web was started again at ")) == (verdict, True)
        # What its log says now is of the one that runs.
        assert saw.endswith(f", after it had died (signal SIGKILL); times in all: {restarts}")


def test_killed_fork_server_takes_its_parts_along_and_both_come_back(federation: Federation) -> None:
    process = federation.start()
    federation.wait_running()
    web, others = federation.pid("web"), federation.pids() - {federation.pid("web")}
    server = psutil.Process(web).parent()
    assert server
    assert server.ppid() == process.pid
    server.kill()
    assert all_dead({web})

    assert children.wait_until(partial(federation.is_back, "web", web), WITHIN_S)
    assert others < federation.pids()
    again = psutil.Process(federation.pid("web")).parent()
    assert again
    assert again.pid != server.pid
    process.send_signal(signal.SIGINT)
    assert process.wait(WITHIN_S) == 0
    assert all_dead({again.pid})


def test_children_of_a_killed_part_die_with_it(federation: Federation) -> None:
    federation.start()
    federation.wait_running()
    victim = federation.pid("parent")
    family = {pid for pid in federation.pids() if os.getpgid(pid) == victim}
    assert len(family) == 2
    os.kill(victim, signal.SIGKILL)
    assert all_dead(family)


def test_second_supervisor_is_turned_away(federation: Federation) -> None:
    federation.start()
    federation.wait_running()
    second = subprocess.run([sys.executable, STANDINS, federation.home.data_dir], check=False, timeout=WITHIN_S)
    assert second.returncode == 9
    assert federation.part_state("web") is PartState.RUNNING


def test_failed_step_stops_what_was_started_and_tells_why(federation: Federation) -> None:
    process = federation.start("fail")
    _, told = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 69
    assert "step: status 1" in told
    assert "a reason" in told
    view = federation.view()
    assert view
    assert view.phase is Phase.FAILED
    assert not any(part.alive for part in view.parts)
