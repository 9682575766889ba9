"""What a kept run of the latency from node to node holds."""

import json
from pathlib import Path

from benchmarks.latency import outcome


def test_a_kept_run_tells_percentiles_goals_and_how_it_came_about(tmp_path: Path) -> None:
    kept = json.loads(json.dumps(outcome([*map(float, range(1, 100)), 500.0], {"nodes": 3}, tmp_path)))
    assert (kept["p50_ms"], kept["p99_ms"], kept["max_ms"]) == (50.0, 99.0, 500.0)
    assert [(goal["row"], goal["held"]) for goal in kept["goals"]] == [("p50_ms", False), ("p99_ms", False)]
    assert kept["plan"] == {"nodes": 3}
    assert len(kept["took_ms"]) == 100
    assert {"commit", "date", "machine", "versions"} <= kept.keys()
    assert list(tmp_path.iterdir()) == []


def test_a_goal_is_held_up_to_its_very_value(tmp_path: Path) -> None:
    kept = outcome([47.0, 47.0, 47.1], {}, tmp_path)
    assert [goal["held"] for goal in kept["goals"]] == [True, False]
