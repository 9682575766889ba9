"""Placement: never a node that cannot or does not live, equal load spreads, keys stay, and what is missing is said."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.placement.choose import BOUND, Unplaceable, choose
from federation.placement.node import Gpu, NodeView
from federation.placement.requirements import Requirements

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


@given(nodes, requirements, keys)
def test_chosen_node_lives_and_is_capable_and_is_the_least_loaded_of_such(known: list[NodeView], asked: Requirements, key: str | None) -> None:
    chosen = choose(asked, known, key=key)
    fitting = [node for node in known if node.alive and capable(node, asked)]
    if isinstance(chosen, Unplaceable):
        assert fitting == []
        assert str(chosen)
    else:
        assert chosen in fitting
        if key is None:
            assert chosen.outstanding / chosen.concurrency == min(node.outstanding / node.concurrency for node in fitting)


@given(st.integers(2, 6), st.integers(1, 60), keys)
def test_equal_load_spreads(count: int, executions: int, key: str | None) -> None:
    known = {f"n{number}": NodeView(name=f"n{number}", role="lead", concurrency=2) for number in range(count)}
    for number in range(executions):
        # Each with a key of its own; one key for all would be the same conversation.
        chosen = choose(Requirements(), list(known.values()), key=None if key is None else f"{key}{number}", spread=str(number))
        assert isinstance(chosen, NodeView)
        known[chosen.name] = chosen.model_copy(update={"outstanding": chosen.outstanding + 1})
    loads = [node.outstanding for node in known.values()]
    if key is None:
        assert max(loads) - min(loads) <= 1
    else:
        assert max(loads) <= BOUND * executions / count + 1


def test_idle_nodes_share_executions_that_come_one_by_one() -> None:
    known = [NodeView(name=name, role="lead") for name in ("taichi", "aorus", "baby")]
    got = Counter(choose(Requirements(), known, spread=str(number)).name for number in range(300))  # type: ignore[union-attr]
    assert all(60 < got[node.name] < 140 for node in known)


def test_key_stays_with_its_node_and_moves_only_when_that_is_full_or_gone() -> None:
    known = [NodeView(name=f"n{number}", role="lead", concurrency=4, outstanding=4) for number in range(5)]
    first = {key: choose(Requirements(), known, key=str(key)) for key in range(50)}
    assert first == {key: choose(Requirements(), known, key=str(key)) for key in range(50)}
    gone = known[0].name
    for key, node in first.items():
        again = choose(Requirements(), known[1:], key=str(key))
        assert isinstance(node, NodeView)
        assert again == node or node.name == gone
    full = [known[0].model_copy(update={"outstanding": 30}), *known[1:]]
    assert all(choose(Requirements(), full, key=str(key)) != full[0] for key in range(50))


def test_key_goes_where_a_place_is_free_rather_than_wait_for_its_node() -> None:
    known = [NodeView(name=f"n{number}", role="lead", concurrency=2) for number in range(5)]
    for key in map(str, range(50)):
        home = choose(Requirements(), known, key=key)
        assert isinstance(home, NodeView)
        busy = [node.model_copy(update={"outstanding": 2}) if node == home else node for node in known]
        second = choose(Requirements(), busy, key=key)
        assert isinstance(second, NodeView)
        assert second.outstanding == 0
        assert second == choose(Requirements(), busy, key=key)


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
    answer = choose(asked, known)
    assert isinstance(answer, Unplaceable)
    assert str(answer) == said
