"""`federation model`: shows, verifies and adds the models whose files are trusted by their SHA-256; serving and asking them is in `model_serve`."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from federation.cli import model_serve
from federation.cli.console import console, errors, inert, print_json, table
from federation.cli.operator import transact
from federation.engines import catalogue, digests
from federation.errors import DatabaseUnavailable, InvalidInput, ModelUnavailable, NotFound, SettingsError, WeightsChanged
from federation.local.home import write_json
from federation.services import models

LONGEST_NAME = 200

app = typer.Typer(
    name="model",
    help="List, verify, add, serve and test models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

app.command("serve")(model_serve.serve)
app.command("test")(model_serve.try_out)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that are known, with the digest of each file.

    Those that ship with the program, and those that were added here.
    """
    found = list(_known())
    if as_json:
        told = [{"name": known.name, "ships": known.ships, "root": str(root) if root else None, "files": known.files} for known, root in found]
        print_json(json.dumps(told, indent=2))
        return
    rows = table("model", "vouched for by", "file", "sha256")
    for known, root in found:
        by = "the program" if known.ships else "the operator"
        for place, digest in sorted(known.files.items()):
            path = "not installed: " + place if root is None else str(root if root.name == place else root / place)
            rows.add_row(inert(known.name), by, inert(path), digest)
    console.print(rows)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Its file, or the folder of its files.")],
    as_json: AsJson = False,
) -> None:
    """Trust the files of a model as they are now.

    Their digests are kept beside the data, and stand for this name beside what ships with the program. The log tells of it, where PostgreSQL answers.
    """
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise InvalidInput("NAME", name, f"1 to {LONGEST_NAME} printable characters")
    if not path.exists():
        raise InvalidInput("PATH", str(path), "a file, or a folder with files")
    with _progress(shown=not as_json) as bar:
        try:
            known = digests.measured(name, path.absolute(), bar)
        except NotFound as error:
            raise InvalidInput("PATH", str(path), "a file, or a folder with files in it: hidden ones do not count") from error
    for told in (str(known.root), *known.files):
        _refuse_no_text(told)
    trusted = digests.described({**digests.added(), name: known})
    _tell_the_log(known)
    where = digests.file_of_added()
    where.parent.mkdir(parents=True, exist_ok=True)
    write_json(where, trusted)
    if as_json:
        print_json(json.dumps({"name": name, "root": str(known.root), "files": dict(known.files)}, indent=2))
        return
    console.print(inert(f"{name}: {len(known.files)} {'file is' if len(known.files) == 1 else 'files are'} trusted as now; kept in {where}."))


def _refuse_no_text(path: str) -> None:
    # Neither the log nor JSON could tell which file it is.
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("PATH", path, "names of files and folders in UTF-8; call it otherwise") from error


def _tell_the_log(known: digests.Known) -> None:
    record = partial(models.record_added, name=known.name, machine=socket.gethostname(), root=str(known.root), files=known.files)
    try:
        transact(record)
    except (DatabaseUnavailable, SettingsError) as error:
        # A machine may be made ready before there is a federation.
        errors.print(inert(f"federation: the log does not tell of this: {error}"))


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this model; else all that are installed.")] = None, as_json: AsJson = False
) -> None:
    """Compare the files of models with what is known of them.

    Exit code 1 when one differs, is missing, or is not known.
    """
    found = list(_known())
    if name is not None and name not in {known.name for known, _ in found}:
        raise NotFound("model", name, [known.name for known, _ in found])
    wanted = [(known, root) for known, root in found if name is None or known.name == name]
    here = {(known.name, root) for known, root in wanted if root is not None}
    if name is not None and not here:
        raise ModelUnavailable(f"{name} is not installed on this machine; `federation doctor` says how to have it")
    wrong: list[WeightsChanged] = []
    with _progress(shown=not as_json) as bar:
        for model, root in sorted(here):
            wrong += digests.differences(model, root, bar)
    if as_json:
        told = [{"model": each.name, "file": str(each.path), "expected": each.expected, "found": each.found} for each in wrong]
        print_json(json.dumps({"ok": not wrong, "models": sorted({model for model, _ in here}), "differences": told}, indent=2))
    else:
        for each in wrong:
            errors.print(inert(f"federation: {each}"))
        absent = sorted({known.name for known, root in wanted if root is None})
        console.print(f"[red]{_are(len(wrong), 'file')} not as known.[/]" if wrong else f"[green]{_are(len(here), 'model')} as known.[/]")
        if absent:
            console.print(inert(f"Not installed here: {', '.join(absent)}."))
    raise typer.Exit(1 if wrong else 0)


def _are(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"


def _known() -> Iterator[tuple[digests.Known, Path | None]]:
    """Yield each known model with the file or folder where it lies; None where it is not installed."""
    places = {name: root for entry in catalogue.ENGINES for name, root in {entry.model: entry.root, **entry.also}.items()}
    for known in digests.shipped().values():
        yield known, places[known.name]()
    for known in digests.added().values():
        yield known, known.root


@contextmanager
def _progress(*, shown: bool) -> Iterator["_Bar"]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not (shown and errors.is_terminal)) as progress:
        yield _Bar(progress)


class _Bar:
    """Shows how much of which file is read."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._file: tuple[Path, TaskID] | None = None

    def __call__(self, path: Path, done: int, total: int) -> None:
        if self._file is None or self._file[0] != path:
            self._file = (path, self._progress.add_task(inert(path.name), total=total))
        self._progress.update(self._file[1], completed=done)
