"""Whether the transport reaches what it is to reach, as far as the readings tell."""

import io
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.broker import kept
from benchmarks.broker.cells import CELLS, RAW
from benchmarks.broker.goals import judged
from benchmarks.goals import show_goals
from benchmarks.readings import Reading

ROOT = Path(__file__).parents[3]
OURS, DURABLE = "activemq (ours)", "kombu, durable and confirmed"


def told(table: str, *figures: tuple[str, str, float]) -> str:
    text = io.StringIO()
    readings = [Reading(table, measure, peer, number, value) for measure, peer, value in figures for number in (1, 2, 3)]
    show_goals(judged(readings, OURS), Console(file=text, width=200))
    return text.getvalue()


@pytest.mark.parametrize(("mine", "held"), [(130.0, True), (110.0, False), (90.0, False)])
def test_a_rate_is_held_against_the_better_peer(mine: float, held: bool) -> None:
    text = told(DURABLE, (CELLS[0].name, OURS, mine), (CELLS[0].name, "redis", 50.0), (CELLS[0].name, "pyamqp", 100.0))
    assert "of pyamqp" in text
    assert "of redis" not in text
    assert ("not held" not in text) is held


@pytest.mark.parametrize(("mine", "held"), [(2.0, True), (3.0, True), (3.1, False)])
def test_latency_is_held_against_rabbitmq_whoever_is_faster(mine: float, held: bool) -> None:
    text = told("prefork, 2 at once, durable and confirmed", ("p50_ms", OURS, mine), ("p50_ms", "redis", 1.0), ("p50_ms", "pyamqp", 3.0))
    assert "of pyamqp" in text
    assert ("not held" not in text) is held


@pytest.mark.parametrize(("raw", "held"), [(100.0, True), (200.0, False)])
def test_consuming_is_held_against_a_raw_socket(raw: float, held: bool) -> None:
    text = told(DURABLE, (RAW.name.replace("raw", "consume"), OURS, 100.0), (RAW.name, OURS, raw))
    assert "raw socket" in text
    assert ("not held" not in text) is held


def test_a_latency_whose_median_is_above_is_not_held_however_wide_its_interval() -> None:
    table = "prefork, 2 at once, durable and confirmed"
    mine, theirs = (1.0, 3.3, 3.4), (3.0, 3.0, 3.0)
    readings = [
        Reading(table, "p50_ms", peer, number, value) for peer, values in ((OURS, mine), ("pyamqp", theirs)) for number, value in enumerate(values, 1)
    ]
    [goal] = judged(readings, OURS)
    assert not goal.held


def test_a_kept_run_has_a_row_for_each_measure_with_interval_and_verdict() -> None:
    both = [f"kombu, {kind}" for kind in kept.KINDS]
    readings = [
        asdict(Reading(table, measure, peer, number, value))
        for table in both
        for measure, peer, value in (
            (CELLS[0].name, OURS, 110.0),
            (CELLS[0].name, "redis", 100.0),
            ("client_kib", OURS, 1.0),
            ("client_kib", "redis", 0.0),
        )
        for number in (1, 2, 3)
    ]
    rate, memory = kept.rows({"readings": readings})
    assert rate == (CELLS[0].title, *("110", "1.10 (1.10 – 1.10) of redis: **not held**") * 2)
    assert memory == ("memory of a connection in the client, KiB", *("1", "redis 0") * 2)


def test_idling_is_told_with_what_the_broker_takes_meanwhile() -> None:
    text = told("threads, 4 at once, durable and confirmed", ("idle_worker_percent", OURS, 0.1), ("idle_broker_percent", OURS, 0.75))
    assert "0.10 % (its broker 0.75 %), held" in text


def test_a_cell_says_by_how_many_it_publishes() -> None:
    titles = {cell.title for cell in CELLS}
    assert {"batch_publish by 100, 100 B, 10 queues, messages/s", "batch_publish by 20, 1 MB, messages/s"} <= titles


def test_names_of_cells_differ() -> None:
    assert len({cell.name for cell in (*CELLS, RAW)}) == len(CELLS) + 1


def test_the_page_counts_the_goals_of_the_run_that_it_shows() -> None:
    run = json.loads(max((ROOT / "benchmarks" / "results").glob("*-broker.json")).read_text("utf-8"))
    told = re.findall(r"^Of (\d+) goals (\d+) are held there", (ROOT / "docs" / "reference" / "broker.md").read_text("utf-8"), re.M)
    assert told == [(str(len(run["goals"])), str(sum(goal["held"] for goal in run["goals"])))]
