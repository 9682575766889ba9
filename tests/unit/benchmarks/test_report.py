"""What is made of the samples of all rounds."""

import io
import json

import pytest
from rich.console import Console

from benchmarks.goals import Goal
from benchmarks.readings import Measure, Reading
from benchmarks.report import Outcome, as_json, show
from benchmarks.servers.peer import Peer
from benchmarks.summary import summarize

OURS, PEER = "federation", "RabbitMQ + rpc"
SECRET = "a-password"


MEASURES = (Measure("rate", "a rate /s", True), Measure("p50_ms", "a latency ms", False, 2))
TABLES = ("prefork, 2 at once", "threads, 4 at once")


def readings(table: str, number: int, peer: str, rate: float) -> list[Reading]:
    return [Reading(table, "rate", peer, number, rate), Reading(table, "p50_ms", peer, number, 1000 / rate)]


def outcome(*rates: tuple[str, float], absent: dict[str, str] | None = None) -> Outcome:
    return Outcome(
        ours=OURS,
        plan={"rounds": 3},
        machine={
            "cores": 2,
            "processor": "a chip",
            "memory_gib": 4.0,
            "file_system": "ext4",
            "system": "Linux",
            "load_average": 0.1,
            "load_average_after": 1.5,
        },
        versions={"Python": "3.11"},
        peers=[Peer(name, f"amqp://user:{SECRET}@host//", "rpc://", {"Broker": "1.0"}, "all on disk", 1) for name, _ in rates],
        absent=absent or {},
        measures=MEASURES,
        readings=[one for table in TABLES for number in (1, 2, 3) for name, rate in rates for one in readings(table, number, name, rate)],
        commits_ms=[0.2, 0.3],
        notes={"measures": "one after the other"},
        took_s=12.0,
        commit="abc1234",
        goals=[Goal("faster", "a row", "1.50", held=True)],
    )


def shown(found: Outcome) -> str:
    text = io.StringIO()
    show(found, Console(file=text, width=160))
    return text.getvalue()


def test_ratio_is_ours_divided_by_the_peers() -> None:
    lines = {(line.table, line.measure, line.peer): line for line in outcome((OURS, 300.0), (PEER, 200.0)).lines}
    rate, latency = lines[TABLES[0], "rate", PEER], lines[TABLES[1], "p50_ms", PEER]
    assert rate.median == 200
    assert rate.ratio
    assert rate.ratio.median == 1.5
    assert latency.ratio
    assert latency.ratio.median == pytest.approx(2 / 3)
    assert lines[TABLES[0], "rate", OURS].ratio is None


def test_tables_settings_and_who_is_missing_are_shown() -> None:
    text = shown(outcome((OURS, 300.0), (PEER, 200.0), absent={"Redis + redis": "no [network] here"}))
    for expected in (*TABLES, "1.50 (1.50 – 1.50)", "acks_late True", "one after the other", "a chip", "all on disk", "Broker 1.0"):
        assert expected in text
    assert "Redis + redis is missing: no [network] here" in text


def test_json_holds_everything_but_addresses() -> None:
    told = json.dumps(as_json(outcome((OURS, 300.0), (PEER, 200.0))))
    assert SECRET not in told
    read = json.loads(told)
    assert len(read["readings"]) == 24
    assert read["plan"] == {"rounds": 3}
    assert read["commit"] == "abc1234"
    assert read["goals"] == [{"goal": "faster", "row": "a row", "found": "1.50", "held": True}]
    assert {peer["name"]: peer["durability"] for peer in read["peers"]} == {OURS: "all on disk", PEER: "all on disk"}
    assert {line["peer"] for line in read["summary"]} == {OURS, PEER}


def test_ours_alone_or_a_peer_alone_is_no_comparison() -> None:
    assert outcome((OURS, 300.0), (PEER, 200.0)).comparable
    for alone in (outcome((OURS, 300.0)), outcome((PEER, 200.0)), outcome()):
        assert not alone.comparable
        assert "machine" in shown(alone)


def test_a_figure_of_nothing_has_no_ratio() -> None:
    # An idle process takes 0.00 % of a core.
    [mine, theirs] = summarize([Reading("idle", "percent", OURS, 1, 0.5), Reading("idle", "percent", PEER, 1, 0.0)], OURS)
    assert (mine.median, mine.ratio) == (0.5, None)
    assert (theirs.median, theirs.ratio) == (0.0, None)
