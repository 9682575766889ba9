"""A node's clock jumps by an hour, there and back: the work goes on, and nothing is lost or doubled."""

import random
import time
from pathlib import Path

import pytest

from federation.errors import LocalServiceError
from federation.local import debian
from federation.settings import settings
from tests.integration.faults.proof import Load, again_and_again
from tests.integration.faults.system import System
from tests.toll import Toll

HOUR_S = 3600


@pytest.fixture(scope="session")
def faketime() -> Path:
    """The library that lets a process believe in another time."""
    folder = settings().cache_dir / "libfaketime"
    if not folder.exists():
        try:
            debian.unpack(["libfaketime"], folder)
        except LocalServiceError as error:
            pytest.skip(f"libfaketime cannot be fetched: {error}")
    return next(folder.rglob("libfaketimeMT.so.1"))


@pytest.mark.fault("clock of a node jumps by an hour")
@pytest.mark.long
def test_clock_of_a_node_jumps_by_an_hour(system: System, faketime: Path, toll: Toll, dice: random.Random) -> None:
    node, jump = system.nodes[0], system.world.folder / "jump"
    jump.write_text("+0")
    system.world.stop(system.parts[node])
    told = {"LD_PRELOAD": str(faketime), "FAKETIME_TIMESTAMP_FILE": str(jump), "FAKETIME_NO_CACHE": "1"}
    # What counts seconds goes on counting; only the time of day jumps.
    system.start_part(node, **told, FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1")
    system.world.until(lambda: system.world.alive(node, system.parts[node].pid), "the node announces itself")
    load = Load(system, steps=2, agents=2)
    jumps = iter([HOUR_S, 0, -HOUR_S, 0, HOUR_S, -HOUR_S])

    def fault() -> None:
        seconds = next(jumps)
        jump.write_text(f"{seconds:+d}")
        believed = system.world.app.send_task("tests.clock", queue=node).get(timeout=60)
        assert abs(believed - time.time() - seconds) < 60

    again_and_again(system, load, toll, dice, fault, times=6)
    done = "SELECT count(*) FROM execution_deliveries WHERE worker LIKE %s AND delivered_at > (SELECT min(created_at) FROM messages)"
    assert system.world.rows(done, f"{node}@%")[0][0] > 10, "the node with the wrong clock did not work"
