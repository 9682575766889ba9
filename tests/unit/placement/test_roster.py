"""Placement: never a node that cannot or does not live, equal load spreads, keys stay, what is missing is said, and many nodes cost little more."""

import random
import sys
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.engines import catalogue
from federation.placement import model_server
from federation.placement.fitting import Unplaceable
from federation.placement.node import Gpu, NodeView
from federation.placement.node_file import node_file
from federation.placement.requirements import CHAT, CHAT_ENGINES, Requirements
from federation.placement.roster import BOUND, Roster

ROLES = ("lead", "developer", "analyst")
TAGS = ("frag", "artifacts")
ENGINES = ("minilm", "llamacpp")

nodes = st.lists(
    st.builds(
        NodeView,
        name=st.sampled_from([f"n{number}" for number in range(8)]),
        role=st.sampled_from(ROLES),
        tags=st.sets(st.sampled_from(TAGS)).map(tuple),
        engines=st.sets(st.sampled_from(ENGINES)).map(tuple),
        models=st.sets(st.sampled_from(("A", "b"))).map(tuple),
        gpus=st.lists(st.builds(Gpu, kind=st.just("RTX"), vram_gib=st.sampled_from((16.0, 24.0, 32.0))), max_size=3).map(tuple),
        concurrency=st.integers(1, 8),
        alive=st.booleans(),
        outstanding=st.integers(0, 50),
    ),
    max_size=8,
    unique_by=lambda node: node.name,
)
requirements = st.builds(
    Requirements,
    node=st.none() | st.sampled_from(["n0", "n1"]),
    role=st.none() | st.sampled_from(ROLES),
    min_vram_gib=st.sampled_from((0, 16, 24, 32)),
    gpus=st.integers(0, 2),
    engine=st.none() | st.sampled_from(ENGINES),
    model=st.none() | st.sampled_from(("a", "B")),
    tags=st.sets(st.sampled_from(TAGS)).map(tuple),
)
keys = st.none() | st.text(max_size=5)
# Some that fit, with work for more and for less than their places, among some that do not live.
crowds = st.lists(
    st.builds(
        NodeView,
        role=st.just("lead"),
        concurrency=st.integers(1, 4),
        outstanding=st.integers(0, 8),
        alive=st.sampled_from((True, True, True, False)),
        name=st.sampled_from([f"n{number}" for number in range(12)]),
    ),
    min_size=2,
    max_size=8,
    unique_by=lambda node: node.name,
)


def capable(node: NodeView, asked: Requirements) -> bool:
    wanted_cards = max(asked.gpus, 1 if asked.min_vram_gib else 0)
    return (
        asked.node in (None, node.name)
        and asked.role in (None, node.role)
        and asked.engine in (None, *node.engines)
        and (asked.model is None or asked.model.lower() in [model.lower() for model in node.models])
        and set(asked.tags) <= set(node.tags)
        and len([gpu for gpu in node.gpus if gpu.vram_gib >= asked.min_vram_gib]) >= wanted_cards
    )


def place(asked: Requirements, known: Sequence[NodeView], *, key: str | None = None) -> str | Unplaceable:
    """Place one execution on nodes that were seen just now."""
    return Roster(known).place(asked, key=key)


@given(nodes, st.lists(st.tuples(requirements, keys), max_size=40))
def test_chosen_node_lives_and_is_capable_and_is_the_least_loaded_of_such(
    known: list[NodeView], executions: list[tuple[Requirements, str | None]]
) -> None:
    roster = Roster(known)
    places, loads = {node.name: node.concurrency for node in known}, {node.name: node.outstanding for node in known}
    for asked, key in executions:
        chosen = roster.place(asked, key=key)
        fitting = [node.name for node in known if node.alive and capable(node, asked)]
        if isinstance(chosen, Unplaceable):
            assert fitting == []
            assert str(chosen)
            continue
        assert chosen in fitting
        if key is None:
            assert loads[chosen] / places[chosen] == min(loads[name] / places[name] for name in fitting)
        else:
            most = BOUND * (sum(loads[name] for name in fitting) + 1) * places[chosen] / sum(places[name] for name in fitting)
            assert loads[chosen] < most + 1
            # Nobody waits while another place is free.
            assert loads[chosen] < places[chosen] or all(loads[name] >= places[name] for name in fitting)
        loads[chosen] += 1


@given(st.integers(2, 6), st.integers(1, 60), keys)
def test_equal_load_spreads(count: int, executions: int, key: str | None) -> None:
    roster = Roster([NodeView(name=f"n{number}", role="lead", concurrency=2) for number in range(count)])
    # Each with a key of its own; one key for all would be the same conversation.
    got = Counter(roster.place(Requirements(), key=None if key is None else f"{key}{number}") for number in range(executions))
    loads = [got[f"n{number}"] for number in range(count)]
    if key is None:
        assert max(loads) - min(loads) <= 1
    else:
        assert max(loads) <= BOUND * executions / count + 1


SHIPPED = {name: node_file(name, Path(__file__).parents[3] / "workers") for name in ("taichi", "aorus", "baby")}


@given(
    st.sets(st.sampled_from(tuple(SHIPPED))),
    st.builds(Requirements, gpus=st.integers(0, 3), min_vram_gib=st.sampled_from((0, 16, 24, 32, 48)), tags=st.sampled_from(((), ("frag",)))),
)
def test_what_needs_a_card_never_comes_to_baby_and_what_nobody_can_do_now_says_what_it_waits_for(alive: set[str], asked: Requirements) -> None:
    """Of the three nodes that ship, whichever of them live."""
    known = [
        NodeView(name=name, role=file.role, tags=file.tags, gpus=file.cards(), concurrency=1, alive=name in alive) for name, file in SHIPPED.items()
    ]
    chosen = place(asked, known)
    fitting = [node.name for node in known if node.alive and capable(node, asked)]
    if asked.gpus or asked.min_vram_gib:
        assert "baby" not in {chosen, *fitting}
    assert chosen in fitting if fitting else str(chosen).startswith(("no live node has ", "no node is alive"))


def test_idle_nodes_share_executions_that_come_one_by_one() -> None:
    known = [NodeView(name=name, role="lead") for name in ("taichi", "aorus", "baby")]
    dice = random.Random(1)
    got = Counter(Roster(known, dice=dice).place(Requirements()) for _ in range(300))
    assert all(60 < got[node.name] < 140 for node in known)


def test_key_stays_with_its_node_and_moves_only_when_that_is_full_or_gone() -> None:
    known = [NodeView(name=f"n{number}", role="lead", concurrency=4, outstanding=4) for number in range(5)]
    first = {key: place(Requirements(), known, key=str(key)) for key in range(50)}
    assert first == {key: place(Requirements(), known, key=str(key)) for key in range(50)}
    assert len(set(first.values())) == 5
    gone = known[0].name
    for key, node in first.items():
        again = place(Requirements(), known[1:], key=str(key))
        assert node in (again, gone)
    full = [known[0].model_copy(update={"outstanding": 30}), *known[1:]]
    assert all(place(Requirements(), full, key=str(key)) != gone for key in range(50))


def test_key_goes_where_a_place_is_free_rather_than_wait_for_its_node() -> None:
    known = [NodeView(name=f"n{number}", role="lead", concurrency=2) for number in range(5)]
    for key in map(str, range(50)):
        home = place(Requirements(), known, key=key)
        busy = [node.model_copy(update={"outstanding": 2}) if node.name == home else node for node in known]
        second = place(Requirements(), busy, key=key)
        assert second != home
        assert second == place(Requirements(), busy, key=key)


@given(crowds, st.text(max_size=5), st.lists(st.tuples(st.booleans(), st.integers(1, 12)), min_size=1, max_size=8))
def test_work_of_a_key_stays_on_its_home_below_the_bound_and_leaves_it_only_then(
    known: list[NodeView], ours: str, bursts: list[tuple[bool, int]]
) -> None:
    # Where the key goes while no node has work.
    home = place(Requirements(), [node.model_copy(update={"outstanding": 0}) for node in known], key=ours)
    roster, fitting = Roster(known), [node for node in known if node.alive]
    assert isinstance(home, Unplaceable) == (not fitting)
    places, loads = {node.name: node.concurrency for node in fitting}, {node.name: node.outstanding for node in fitting}
    for is_ours in (is_ours for is_ours, times in bursts for _ in range(times)):
        chosen = roster.place(Requirements(), key=ours if is_ours else None)
        if isinstance(home, Unplaceable) or isinstance(chosen, Unplaceable):
            continue
        if is_ours:
            # With this one counted.
            bound = Fraction(BOUND) * (sum(loads.values()) + 1) * places[home] / sum(places.values())
            would_wait = loads[home] >= places[home] and any(loads[name] < places[name] for name in loads)
            if loads[home] < bound and not would_wait:
                assert chosen == home
            # At the bound itself the last bit of a float decides.
            if loads[home] > bound or would_wait:
                assert chosen != home
        loads[chosen] += 1


def lines_run(count: int, key: str | None) -> int:
    """Return how many lines of Python 300 placements among so many loaded nodes need, the first of all (which sorts them) left out."""
    dice = random.Random(count)
    roster = Roster([NodeView(name=f"n{number}", role="lead", concurrency=4, outstanding=dice.randrange(8)) for number in range(count)], dice=dice)
    roster.place(Requirements(), key=key)
    lines = 0

    def count_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count_line

    before = sys.gettrace()
    sys.settrace(count_line)
    try:
        for number in range(300):
            roster.place(Requirements(), key=None if key is None else f"{key}{number}")
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("key", [None, "prompt"])
def test_fifty_times_the_nodes_cost_little_more(key: str | None) -> None:
    assert lines_run(5_000, key) < 2 * lines_run(100, key)


TAICHI = NodeView(name="taichi", role="lead", engines=("minilm", "llamacpp"), gpus=(Gpu(kind="RTX 5090", vram_gib=32),) * 2)
BABY = NodeView(name="baby", role="analyst", engines=("minilm",))


@pytest.mark.parametrize(
    ("asked", "known", "said"),
    [
        (Requirements(engine="vllm"), [TAICHI, BABY], "no live node has engine=vllm (have: minilm, minilm, llamacpp; stale: none)"),
        (
            Requirements(engine="llamacpp"),
            [TAICHI.model_copy(update={"alive": False}), BABY],
            "no live node has engine=llamacpp (have: minilm; stale: taichi)",
        ),
        (
            Requirements(role="analyst", gpus=1, min_vram_gib=24),
            [TAICHI, BABY],
            "no live node has all of role=analyst, 1 GPU with 24 GiB (taichi lacks role=analyst; baby lacks 1 GPU with 24 GiB)",
        ),
        (
            Requirements(role="developer", tags=("frag",)),
            [BABY],
            "no live node has role=developer (have: analyst; stale: none); no live node has tag=frag (have: nothing; stale: none)",
        ),
        (Requirements(), [BABY.model_copy(update={"alive": False})], "no node is alive (stale: baby)"),
        (Requirements(gpus=4), [TAICHI], "no live node has 4 GPUs (have: RTX 5090 32 GiB + RTX 5090 32 GiB; stale: none)"),
    ],
)
def test_what_is_missing_is_said(asked: Requirements, known: list[NodeView], said: str) -> None:
    answer = place(asked, known)
    assert isinstance(answer, Unplaceable)
    assert str(answer) == said


@pytest.mark.parametrize("engine", CHAT_ENGINES)
def test_what_asks_for_any_engine_that_answers_goes_to_a_node_with_one(engine: str) -> None:
    silent = NodeView(name="silent", role="lead", engines=("minilm",))
    speaking = NodeView(name="speaking", role="lead", engines=("minilm", engine))
    assert Roster([silent, speaking]).place(Requirements(engine=CHAT)) == "speaking"
    assert "no live node has engine=chat (have: minilm" in str(Roster([silent]).place(Requirements(engine=CHAT)))


def test_the_engines_that_answer_are_those_of_the_catalogue_and_of_servers() -> None:
    assert {*CHAT_ENGINES} == {*(entry.name for entry in catalogue.CHAT), model_server.ENGINE}
