"""The documentation's example of a task: run by a worker, delivered twice, one effect; its bad input is told."""

import uuid
from pathlib import Path
from typing import Any

import pytest

World = Any
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


def test_the_example_counts_has_one_effect_and_says_what_is_wrong(world: World) -> None:
    node = world.node("counting", concurrency=1)
    world.worker(node, "-I", "count_words", "-l", "INFO", PYTHONPATH=f"{world.environment()['PYTHONPATH']}:{EXAMPLES}")
    text = world.folder / "text.txt"
    text.write_text("one two three\n" * 25_000)
    identity = str(uuid.uuid4())
    for _ in range(2):
        sent = world.app.send_task("examples.count_words", kwargs={"path": str(text)}, queue=node, task_id=identity)
    assert sent.get(timeout=90) == {"words": 75_000}
    world.until(lambda: world.size(world.destination(node)).in_flight == 0, "both messages are settled")
    assert world.size(world.destination(node)).waiting == 0
    assert world.rows("SELECT execution_id, value->'words' FROM execution_effects") == [(uuid.UUID(identity), 75_000)]
    with pytest.raises(Exception, match="path: got '/nowhere', wants a file on the node's disk"):
        world.app.send_task("examples.count_words", kwargs={"path": "/nowhere"}, queue=node).get(timeout=90)
    world.until(lambda: "raised expected: PermanentError(\"path: got '/nowhere'" in world.log(node), "its refusal is logged")
    assert "Traceback" not in world.log(node)
