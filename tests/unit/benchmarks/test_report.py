"""What is made of the samples of all rounds."""

import io
import json

import pytest
from rich.console import Console

from benchmarks.report import Outcome, as_json, show
from benchmarks.rounds import Plan, Sample
from benchmarks.servers.peer import Peer

OURS, PEER = "federation", "RabbitMQ + rpc"
SECRET = "a-password"


def sample(pool: str, number: int, peer: str, rate: float) -> Sample:
    return Sample(pool, number, peer, rate, 2 * rate, 1000 / rate, 4000 / rate, 0.3)


def outcome(*rates: tuple[str, float], absent: dict[str, str] | None = None) -> Outcome:
    return Outcome(
        ours=OURS,
        plan=Plan(3, 100, 10),
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
        peers=[Peer(name, f"amqp://user:{SECRET}@host//", "rpc://", {"Broker": "1.0"}, "all on disk") for name, _ in rates],
        absent=absent or {},
        samples=[sample(pool, number, name, rate) for pool in ("prefork", "threads") for number in (1, 2, 3) for name, rate in rates],
        took_s=12.0,
    )


def shown(found: Outcome) -> str:
    text = io.StringIO()
    show(found, Console(file=text, width=160))
    return text.getvalue()


def test_ratio_is_ours_divided_by_the_peers() -> None:
    lines = {(line.pool, line.measure, line.peer): line for line in outcome((OURS, 300.0), (PEER, 200.0)).lines}
    rate, latency = lines["prefork", "processed_per_s", PEER], lines["threads", "p50_ms", PEER]
    assert rate.median == 200
    assert rate.ratio
    assert rate.ratio.median == 1.5
    assert latency.ratio
    assert latency.ratio.median == pytest.approx(2 / 3)
    assert lines["prefork", "processed_per_s", OURS].ratio is None


def test_tables_settings_and_who_is_missing_are_shown() -> None:
    text = shown(outcome((OURS, 300.0), (PEER, 200.0), absent={"Redis + redis": "no [network] here"}))
    for expected in ("prefork, 2 at once", "threads, 4 at once", "1.50 (1.50 – 1.50)", "acks_late True", "a chip", "all on disk", "Broker 1.0"):
        assert expected in text
    assert "Redis + redis is missing: no [network] here" in text


def test_json_holds_everything_but_addresses() -> None:
    told = json.dumps(as_json(outcome((OURS, 300.0), (PEER, 200.0))))
    assert SECRET not in told
    read = json.loads(told)
    assert len(read["samples"]) == 12
    assert read["plan"] == {"rounds": 3, "tasks": 100, "calls": 10}
    assert read["peers"][PEER]["durability"] == "all on disk"
    assert {line["peer"] for line in read["summary"]} == {OURS, PEER}


def test_ours_alone_or_a_peer_alone_is_no_comparison() -> None:
    assert outcome((OURS, 300.0), (PEER, 200.0)).comparable
    for alone in (outcome((OURS, 300.0)), outcome((PEER, 200.0)), outcome()):
        assert not alone.comparable
        assert "machine" in shown(alone)
