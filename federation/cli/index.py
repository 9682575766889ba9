"""`federation index`: makes a folder searchable, shows how far that is and what was skipped, and follows its changes where it is asked to."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.orm import Session

from federation.cli.acting import name, transact_as
from federation.cli.console import console, errors, inert, print_json, table
from federation.errors import InvalidInput, TransientError
from federation.mcp.index_runs import IndexProgress, progress
from federation.services import indexing, retrieval
from federation.store.models.cop import Visibility

LOOK_S: Final = 0.2
# A change is looked at when nothing has followed it for a moment: editors and git write many files at once.
SETTLE_MS: Final = 200


def index(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The folder, as the node that holds the vectors sees it.")],
    *,
    visibility: Annotated[
        Visibility | None, typer.Option(help="Who may find it; unset, without --conversation too: as you indexed it before, else all.")
    ] = None,
    conversation: Annotated[str | None, typer.Option("--conversation", metavar="NAME", help="Only its members may find it.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all is embedded, too, and found by its meaning.")] = False,
    skipped: Annotated[bool, typer.Option("--skipped", help="List what was not indexed, and why.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and index again whenever something below it changes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch an object a line.")] = False,
) -> None:
    """Make a folder of code and texts searchable, and wait until it is found by its words.

    In the name of the agent whose token is in FEDERATION_TOKEN, else in yours. What has not changed costs nothing.
    The nodes go on with it when this command ends, and embed what is new in the background.
    """
    root = path.absolute()
    if watch and not root.is_dir():
        raise InvalidInput("PATH", str(path), "with --watch a folder of this machine: changes elsewhere are not seen from here")
    who = name()

    def once() -> None:
        found, refused = _indexed(who, root, visibility=visibility, conversation_id=conversation, embedded=wait, shows=not as_json)
        _tell(found, refused, listed=skipped, as_json=as_json)

    if watch:
        _follow(root, once)
    else:
        once()


def _indexed(
    who: str, root: Path, *, visibility: Visibility | None, conversation_id: str | None, embedded: bool, shows: bool
) -> tuple[IndexProgress, Sequence[dict[str, str]]]:
    """Ask for a run, follow it until all is searchable or even embedded, and return it with what was skipped."""

    def start(session: Session) -> uuid.UUID:
        return retrieval.request_index(session, str(root), visibility=visibility, conversation_id=conversation_id)

    run = transact_as(who, start)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not (shows and errors.is_terminal)) as bar:
        shown = bar.add_task("", total=None)
        while not ((found := transact_as(who, lambda session: progress(session, run))).finished or (found.searchable and not embedded)):
            words = ": ".join(filter(None, (found.state, found.waiting_for and f"waits for {found.waiting_for}", found.note)))
            bar.update(shown, description=inert(words), total=found.batches or None, completed=found.batches_done)
            time.sleep(LOOK_S)
    return found, transact_as(who, lambda session: indexing.progress(session, run)).skipped


def _tell(found: IndexProgress, refused: Sequence[dict[str, str]], *, listed: bool, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps({**asdict(found), "skipped": refused}, default=str))
        return
    counts = f"{found.files} files, {found.changed_files} changed, {found.deleted_files} gone, {found.chunks} pieces new"
    console.print(inert(f"{found.path} is searchable: {counts}; {len(refused)} skipped{'' if listed or not refused else ' (--skipped lists them)'}."))
    if not found.finished:
        left = found.batches - found.batches_done
        what = f"{left} batches of it are embedded" if left else "Its vectors are written"
        console.print(f"{what} in the background, so that it is found by its meaning, too.")
    if listed and refused:
        rows = table("skipped", "why")
        for each in refused:
            rows.add_row(inert(each["path"]), inert(each["reason"]))
        console.print(rows)
        reasons = Counter(each["reason"].partition(":")[0] for each in refused)
        console.print(inert("; ".join(f"{count} {reason}" for reason, count in reasons.most_common())))


def _follow(root: Path, once: Callable[[], None]) -> None:
    """Index now and after each change, until the command is interrupted; what fails for the moment is tried again."""
    # Only who watches needs it.
    from watchfiles import watch  # noqa: PLC0415

    due, told = True, ""
    # It yields each second, with or without changes; the first time when it watches already, so that nothing is missed in between.
    for changes in watch(root, step=SETTLE_MS, rust_timeout=1000, yield_on_timeout=True, raise_interrupt=True):
        due = due or bool(changes)
        if not due:
            continue
        try:
            once()
            due, told = False, ""
        except TransientError as error:
            if told != str(error):
                told = str(error)
                errors.print(inert(f"federation: {told}; it is tried again"))
