"""Whether the transport reaches what it is to reach, as far as the readings tell."""

import io

import pytest
from rich.console import Console

from benchmarks.broker.cells import CELLS, RAW
from benchmarks.broker.goals import judged
from benchmarks.goals import show_goals
from benchmarks.readings import Reading

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


@pytest.mark.parametrize(("mine", "held"), [(2.0, True), (3.0, True), (4.0, False)])
def test_latency_is_held_against_rabbitmq_whoever_is_faster(mine: float, held: bool) -> None:
    text = told("prefork, 2 at once, durable and confirmed", ("p50_ms", OURS, mine), ("p50_ms", "redis", 1.0), ("p50_ms", "pyamqp", 3.0))
    assert "of pyamqp" in text
    assert ("not held" not in text) is held


@pytest.mark.parametrize(("raw", "held"), [(100.0, True), (200.0, False)])
def test_consuming_is_held_against_a_raw_socket(raw: float, held: bool) -> None:
    text = told(DURABLE, (RAW.name.replace("raw", "consume"), OURS, 100.0), (RAW.name, OURS, raw))
    assert "raw socket" in text
    assert ("not held" not in text) is held


def test_names_of_cells_differ() -> None:
    assert len({cell.name for cell in (*CELLS, RAW)}) == len(CELLS) + 1
