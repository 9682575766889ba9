"""From one node to three: who announces itself gets work within half a second, nothing else is restarted; how long work takes from node to node."""

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.latency import figures, outcome
from benchmarks.run import keep
from federation.delivery.known_nodes import FRESH_S
from tests.conftest import MEASURED

World = Any
HANDED_ON = int(os.environ.get(MEASURED, "100"))
# A file for the run as JSON.
KEPT = "LATENCY_JSON"


def test_a_federation_grows_from_one_node_to_three_without_a_restart(world: World, postgres: Any, tell: Callable[[str], None]) -> None:
    stages = [world.node("first", role="lead"), world.node("second", role="developer"), world.node("third", role="analyst")]
    # Asked for before anybody can do it: who comes last gets what waited.
    early = world.record("tests.where", role="analyst")
    workers = {}
    for stage, node in enumerate(stages, 1):
        workers[node] = world.worker(node)
        # So long those who place may rely on the nodes that they knew.
        time.sleep(FRESH_S)
        done = [world.record("tests.where") for _ in range(6 * stage)]
        on = Counter(world.result(identity)["node"] for identity in done)
        assert set(on) == set(stages[:stage]), f"stage {stage}: {on}"
    assert world.result(early)["node"] == stages[2]
    # Who was there first is the same process as ever.
    assert {node: process.poll() for node, process in workers.items()} == dict.fromkeys(stages)
    assert world.rows("SELECT type, count(*) FROM events WHERE type LIKE 'node.%%' GROUP BY 1") == [("node.announced", 3)]

    for number in range(HANDED_ON):
        sender, receiver = stages[number % 3], stages[(number + 1) % 3]
        handed = world.result(world.record("tests.hand_on", {"to": receiver}, node=sender))
        assert world.result(handed)["node"] == receiver
    took = [
        1000 * row[0]
        for row in world.rows(
            """
            SELECT extract(epoch FROM d.delivered_at - e.created_at)::float FROM executions e
            JOIN execution_deliveries d ON d.execution_id = e.id AND d.number = 1
            WHERE e.task_name = 'tests.where' AND e.kwargs ? 'sender' AND e.node <> e.kwargs->>'sender' ORDER BY e.created_at
            """
        )
    ]
    assert len(took) == HANDED_ON
    found = figures(took)
    tell(f"from one node's transaction to the beginning on another: p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms")
    if KEPT in os.environ:
        plan = {"nodes": len(stages), "places": 2, "pool": "threads", "handed_on": HANDED_ON, "at_once": 1, "fsync": postgres.durable}
        keep(outcome(took, plan, world.folder), Console(), Path(os.environ[KEPT]))
