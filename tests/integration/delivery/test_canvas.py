"""Canvas over the federation's own application: what follows an execution that ends while ActiveMQ is away is sent when it is back."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord

from federation.errors import InvalidInput

World = Any


def signature(world: World, name: str, *, node: str, **kwargs: Any) -> Any:
    return world.app.signature(name, kwargs=kwargs, queue=node, immutable=True)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
@pytest.mark.parametrize("canvas", ["chain", "chord"])
def test_what_follows_an_execution_that_ends_while_the_broker_is_away_is_done_when_it_is_back(
    world: World, activemq: Any, pool: str, canvas: str
) -> None:
    node = world.node("joining", concurrency=2, pool=pool)
    world.worker(node)
    go, mark = world.folder / "go", world.folder / "mark"
    started = [world.folder / f"started-{number}" for number in range(2 if canvas == "chord" else 1)]
    first = [signature(world, "tests.effect", node=node, started=str(path), go=str(go)) for path in started]
    last = signature(world, "tests.leave_a_mark", node=node, path=str(mark))
    asked = chord(first, app=world.app)(last) if canvas == "chord" else chain(*first, last, app=world.app)()
    world.until(lambda: all(map(Path.exists, started)), "all that comes first runs")
    activemq.kill()
    go.touch()
    world.until(lambda: "canvas.deferred" in world.log(node), "it is over, and what follows cannot be sent")
    activemq.start()
    world.until(mark.exists, "what follows is done")
    assert mark.read_text() == asked.id
    assert asked.get(timeout=90) == str(mark)
    world.until(lambda: (size := world.size(world.destination(node))).in_flight + size.waiting == 0, "each message is settled")
    assert {result.state for result in (asked.parent.results if canvas == "chord" else [asked.parent])} == {"SUCCESS"}
    assert world.rows("SELECT count(*), count(DISTINCT execution_id) FROM execution_effects") == [(len(first), len(first))]


def test_what_names_no_queue_runs_where_what_it_follows_ran(calm: World) -> None:
    marks = [calm.folder / f"mark-{number}" for number in range(3)]
    steps = [calm.app.signature("tests.leave_a_mark", kwargs={"path": str(mark)}, immutable=True) for mark in marks]
    asked = chain(steps[0].set(queue=calm.calm_node), *steps[1:], app=calm.app)()
    assert asked.get(timeout=90) == str(marks[2])


def test_a_call_that_names_no_queue_is_refused(calm: World) -> None:
    with pytest.raises(InvalidInput, match=r"queue: got None, wants the name of the node that is to run tests\.leave_a_mark"):
        calm.app.send_task("tests.leave_a_mark", kwargs={"path": "/nowhere"})
    called = calm.celery("call", "tests.leave_a_mark", name="call")
    assert called.wait(timeout=90) == 1
    told = calm.log("call")
    assert ("Error: queue: got None" in told, "Traceback" in told) == (True, False), told


def call(world: World, queue: str, name: str, path: Path) -> tuple[int, str]:
    """Call a task on the command line; return how that ended and what it said."""
    called = world.celery("call", "tests.leave_a_mark", "--queue", queue, "--kwargs", json.dumps({"path": str(path)}), name=name)
    return called.wait(timeout=90), world.log(name)


def test_a_misspelt_queue_is_refused_with_the_nearest_and_no_message_is_sent(world: World, tmp_path: Path) -> None:
    node = world.node("spelt")
    status, told = call(world, node[1:], "misspelt", tmp_path)
    assert status == 1
    assert f"Error: no queue '{node[1:]}'; nearest: {node}; if it is one of your own, start the worker" in told
    assert "Traceback" not in told
    assert world.size(world.destination(node[1:])) is None
    assert call(world, node, "spelt", tmp_path)[0] == 0, "a node that is not alive has its queue all the same"
    assert world.size(world.destination(node)).waiting == 1


def test_a_queue_of_ones_own_works_and_one_that_nobody_consumes_is_told(world: World) -> None:
    node = world.node("shared")
    own, other = f"own-{node}", f"{uuid.uuid4().hex}"
    mark = world.folder / "mark"
    status, told = call(world, other, "unheard", mark)
    assert status == 0
    assert f"Warning: nobody consumes the queue '{other}' now" in told
    assert world.size(world.destination(other)).waiting == 1
    world.worker(node, "-Q", f"{node},{own}")
    world.until(lambda: (size := world.size(world.destination(own))) and size.subscriptions, "the worker consumes its own queue too")
    status, told = call(world, own, "own", mark)
    assert (status, "Warning" in told) == (0, False)
    world.until(mark.exists, "it runs there")
    status, told = call(world, own[:-1], "own misspelt", mark)
    assert (status, f"nearest: {own}" in told) == (1, True)
