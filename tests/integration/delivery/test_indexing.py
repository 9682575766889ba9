"""A tree is indexed, changed and indexed again by a real worker: LanceDB holds what PostgreSQL knows, and nothing else."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from federation.services.retrieval import INDEX, SEARCH
from federation.vectors.index import VectorIndex
from tests import forks

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
    assert stored.meanings.values("id") == first
    (tree / "gone.py").unlink()
    (tree / "changed.py").write_text("def badgers() -> None:\n    pass\n")
    index(world, tree)
    assert len(first & indexed()) == 1
    assert stored.meanings.values("id") == stored.words.values("id") == indexed()
    assert world.rows("SELECT count(*) FROM vector_changes") == [(0,)]
    hits = world.result(
        world.record(SEARCH, {"query": "who feeds the otters that are gone?", "limit": 5, "root": str(tree)}, tags=["frag"]), within_s=120
    )
    assert {hit["path"] for hit in hits} == {"kept.py", "changed.py"}
    shutil.rmtree(tree)
    index(world, tree)
    assert stored.meanings.values("id") == stored.words.values("id") == indexed() == set()


def command(world: World, *words: str, **streams: Any) -> Any:
    """Start `federation index …` as the person at the command line."""
    process = forks.start("federation.cli.main", "index", *words, cwd=world.folder, env=world.environment(), **streams)
    world.processes.append(process)
    return process


def test_the_command_indexes_lists_what_it_skipped_and_follows_changes(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    node = world.node("frag", tags=["frag"], engines=["minilm"])
    world.worker(node)
    tree = tmp_path_factory.mktemp("tree")
    (tree / "otters.py").write_text('def feed_otters() -> None:\n    """Feeds the otters."""\n')
    (tree / "notes").write_text("Otters eat fish.\n")
    (tree / "credentials.json").write_text("{}")
    (tree / ".gitignore").write_text("*.log\n")
    (tree / "a.log").write_text("fed\n")
    with (world.folder / "told").open("wb") as told:
        assert command(world, str(tree), "--skipped", stdout=told).wait(120) == 0
        assert command(world, str(tree / "nowhere"), "--watch", stdout=told).wait(60) == 2
    lines = (world.folder / "told").read_text()
    assert f"{tree} is searchable: 2 files, 2 changed, 0 gone, 2 pieces new; 3 skipped." in lines
    assert re.search(r"credentials\.json +looks like a secret: by its name", lines)
    assert re.search(r"a\.log +left out by \.gitignore", lines)
    with (world.folder / "followed").open("wb") as told:
        watching = command(world, str(tree), "--watch", "--json", stdout=told)

        def runs() -> list[Any]:
            return [json.loads(line) for line in (world.folder / "followed").read_text().splitlines(keepends=True) if line.endswith("\n")]

        world.until(lambda: len(runs()) == 1, "the first run", within_s=120)
        (tree / "badgers.py").write_text("def feed_badgers() -> None:\n    pass\n")
        world.until(lambda: len(runs()) == 2, "the change is seen", within_s=120)
        assert watching.poll() is None
    first, second = runs()
    assert (first["changed_files"], second["changed_files"], second["searchable"]) == (0, 1, True)
    assert {each["path"] for each in second["skipped"]} == {".gitignore", "a.log", "credentials.json"}


def test_a_run_whose_worker_is_killed_again_and_again_ends_with_each_chunk_once(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    node = world.node("frag", tags=["frag"], engines=["minilm"])
    tree, stored = tmp_path_factory.mktemp("tree"), VectorIndex(world.folder / "vectors")
    for number in range(40):
        (tree / f"m{number}.py").write_text("".join(f"def f{number}_{each}() -> int:\n    return {each}\n\n\n" for each in range(10)))
    worker = world.worker(node)
    run_id = world.record(INDEX, {"path": str(tree)}, tags=["frag"])
    # When its scan is recorded, when it is searchable, and when a batch is embedded.
    for sign in ("index_runs", "index_batches", "vector_changes"):
        world.until(lambda sign=sign: bool(world.rows(f"SELECT 1 FROM {sign}")), f"something in {sign}", within_s=120)
        worker.kill()
        worker.wait()
        worker = world.worker(node)

    def ended() -> bool:
        world.publisher.sweep()
        return bool(world.rows("SELECT 1 FROM index_runs WHERE id = %s AND finished_at IS NOT NULL", run_id))

    world.until(ended, "the run ends", within_s=200)
    assert world.rows("SELECT count(*), count(DISTINCT text), count(vector_at) FROM chunks") == [(400, 400, 400)]
    assert world.rows("SELECT count(*), count(words_at) FROM documents") == [(40, 40)]
    known = {row[0] for row in world.rows("SELECT id::text FROM chunks")}
    assert stored.words.values("id") == stored.meanings.values("id") == known
    assert (stored.words.count(), stored.meanings.count()) == (400, 400)
