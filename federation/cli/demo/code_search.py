"""Steps 3 and 4: index a real code base over all nodes, then ask it ten fixed questions."""

import shutil
import tomllib
from importlib import resources
from importlib.metadata import distribution
from pathlib import Path

from federation.cli.demo.stage import BOB, EVE, Stage, bar, check, heading, said, say, short

ENOUGH = 8
AMONG = 3


def _tree(stage: Stage) -> Path:
    """Return a copy of the installed kombu; a later demo finds it there and changes one file of it."""
    tree = stage.workspace / "kombu"
    if not tree.exists():
        shutil.copytree(Path(str(distribution("kombu").locate_file("kombu"))), tree / "kombu", ignore=shutil.ignore_patterns("__pycache__"))
    return tree


async def index(stage: Stage) -> None:
    """Index the tree; the second demo finds it indexed and embeds one changed file."""
    tree = _tree(stage)
    before = stage.one("select count(*) from documents join indexed_folders on indexed_folders.id = folder_id where root = %s", str(tree))
    heading(3, "Index one changed file of a code base that is indexed" if before else "Index a real code base: kombu, as it is installed")
    if before:
        changed = tree / "kombu" / "clocks.py"
        changed.write_text(changed.read_text() + f"\n\ndef touched_by_demo_{stage.run.replace('-', '_')}() -> str:\n    return {stage.run!r}\n")
        say(f"changed {changed.relative_to(tree)}; {before} files are indexed already")
    started = await stage.call(BOB, "federation_index", path=str(tree))
    run_id = started["run_id"]
    await stage.until("the scan", lambda: stage.sql("select 1 from index_runs where id = %s", run_id))
    run = stage.sql("select files, changed_files, chunks, batches from index_runs where id = %s", run_id)[0]
    said(BOB, "federation_index", f"{run.files} files, {run.changed_files} changed, {run.chunks} chunks to embed in {run.batches} batches")
    with bar() as progress:
        task = progress.add_task("embedding", total=run.batches)

        def finished() -> bool:
            done = stage.one("select count(*) from index_batches where run_id = %s and finished_at is not null", run_id)
            progress.update(task, completed=done)
            return stage.one("select finished_at is not null from index_runs where id = %s", run_id) is True

        # However slow a machine is, it embeds one more batch in this time.
        await stage.until("the index", finished, within_s=300, moves=lambda: progress.tasks[task].completed)
    _check_run(stage, tree, run_id, first=not before)


def _check_run(stage: Stage, tree: Path, run_id: str, *, first: bool) -> None:
    spread = stage.sql("select node, count(*) as batches from index_batches where run_id = %s group by node order by node", run_id)
    say("batches by node: " + ", ".join(f"{row.node} {row.batches}" for row in spread))
    changed = stage.one("select changed_files from index_runs where id = %s", run_id)
    # Files without a word in them (empty __init__.py) are looked at anew each time and give no chunk.
    documents = stage.one("select count(*) from documents where run_id = %s", run_id)
    if first:
        check(len(spread) > 1, "the batches were spread over several nodes")
        check(documents == changed > 50, f"{documents} documents are recorded")
    else:
        check(documents == changed == 1, "one document was read anew, the others cost nothing")
    waiting = stage.one(
        """
        select count(*) from chunks join documents on documents.id = document_id join indexed_folders on indexed_folders.id = folder_id
        where root = %s and vector_at is null
        """,
        str(tree),
    )
    check(waiting == 0, "each chunk has its vector in LanceDB")
    check(stage.one("select count(*) from vector_changes where run_id = %s", run_id) == 0, "nothing is left in the staging table")


async def ask(stage: Stage) -> None:
    """Ask the ten questions; the right file must be among the first three hits of at least eight."""
    heading(4, "Ask ten fixed questions about that code (full text and vectors, fused)")
    questions = tomllib.loads((resources.files("federation.cli.demo") / "questions.toml").read_text())["fixed"]
    root = str(_tree(stage))
    right = 0
    for each in questions:
        hits = (await stage.call(EVE, "federation_search", query=each["question"], limit=AMONG, root=root))["hits"] or []
        check(bool(hits), f"an answer in time to «{each['question']}»", quiet=True)
        found = [hit["path"] for hit in hits]
        good = each["file"] in found
        right += good
        best = next((hit for hit in hits if hit["path"] == each["file"]), hits[0])
        mark = "[green]✓[/]" if good else "[yellow]–[/]"
        say(f"{mark} {short(each['question'], 70)} → {best['path']}:{best['start_line']} ({', '.join(best['matched_by'])})")
    check(right >= ENOUGH, f"{right} of {len(questions)} have the right file among the first {AMONG}")
    ran = stage.one(
        """
        select count(*) from executions
        where task_name = 'federation.tasks.retrieval.search' and actor = %s and node = 'aorus' and created_at >= %s
        """,
        EVE,
        stage.started_at,
    )
    check(ran >= len(questions), f"the searches ran as executions on aorus, the node of the vectors ({ran})")
