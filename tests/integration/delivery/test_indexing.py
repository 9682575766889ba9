"""A tree is indexed, changed and indexed again by a real worker: LanceDB holds what PostgreSQL knows, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from federation.services.retrieval import INDEX, SEARCH
from federation.vectors.index import VectorIndex

World = Any


def index(world: World, tree: Path) -> None:
    run_id = world.record(INDEX, {"path": str(tree)}, tags=["frag"])
    world.result(run_id, within_s=120)

    def ended() -> bool:
        world.publisher.sweep()  # as beat does: a node that stood still when its work was recorded gets it then
        return bool(world.rows("SELECT 1 FROM index_runs WHERE id = %s AND finished_at IS NOT NULL", run_id))

    world.until(ended, "the run ends", within_s=120)


def test_what_vanishes_from_a_tree_vanishes_from_the_search(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    node = world.node("frag", tags=["frag"], engines=["minilm"])
    world.worker(node)
    # What lies beside the federation's own data is not indexed.
    tree, stored = tmp_path_factory.mktemp("tree"), VectorIndex(world.folder / "vectors")
    for name in ("kept", "changed", "gone"):
        (tree / f"{name}.py").write_text(f'def {name}_otters() -> None:\n    """Feeds the otters that are {name}."""\n')

    def indexed() -> set[str]:
        return {row[0] for row in world.rows("SELECT id::text FROM chunks")}

    index(world, tree)
    first = indexed()
    assert len(first) == 3
    assert stored.chunks.values("id") == first
    (tree / "gone.py").unlink()
    (tree / "changed.py").write_text("def badgers() -> None:\n    pass\n")
    index(world, tree)
    assert len(first & indexed()) == 1
    assert stored.chunks.values("id") == indexed()
    assert world.rows("SELECT count(*) FROM vector_changes") == [(0,)]
    hits = world.result(
        world.record(SEARCH, {"query": "who feeds the otters that are gone?", "limit": 5, "root": str(tree)}, tags=["frag"]), within_s=120
    )
    assert {hit["path"] for hit in hits} == {"kept.py", "changed.py"}
