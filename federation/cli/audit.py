"""`federation audit`: compares the event log with its seals, and hands it over to a stranger; reads as the auditor and changes nothing."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.orm import Session

from federation.cli.bundle import Bundle, write
from federation.cli.console import console, errors, inert, print_json, table
from federation.delivery.sealing import key_file, seals_file, seals_folder
from federation.errors import InvalidInput, SettingsError
from federation.local.elsewhere import check_database
from federation.security import seals
from federation.security.signing import PublicKey, load_public, public_file
from federation.services import statements
from federation.services.replay import Replayed, replay
from federation.services.statements import StatementView
from federation.services.verification import Report, verify
from federation.settings import settings
from federation.transaction import connect, reading

app = typer.Typer(
    name="audit",
    help="Verify, export and replay the event log; show who signed the contrary of what he signed.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SealsFile = Annotated[Path | None, typer.Option("--seals", metavar="FILE", help="The file of seals; else the one that beat writes here.")]
KeyFile = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The public key of the seals; else the one of beat here.")]
DatabaseOnly = Annotated[
    bool, typer.Option("--database-only", help="Do without the file of seals; a tail that was cut off with its seals is not found.")
]


@app.command("verify")
def verify_log(seals_path: SealsFile = None, key_path: KeyFile = None, database_only: DatabaseOnly = False, as_json: AsJson = False) -> None:
    """Compare every event with its seal.

    Finds what was changed, removed, inserted or moved, and a tail that was cut. Exit code 1 when something is wrong.
    """
    if database_only and seals_path is not None:
        raise InvalidInput("--database-only", True, "to be left out where --seals names a file")
    key = _key(key_path)
    filed = None if database_only else _filed(seals_path)
    with _reading() as session, _progress("events", shown=not as_json) as bar:
        report = verify(session, key, filed=filed, progress=bar)
    if as_json:
        print_json(json.dumps({"ok": not report.findings, **asdict(report)}, indent=2))
    else:
        _print(report)
    raise typer.Exit(1 if report.findings else 0)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make; it must not exist.")],
    seals_path: SealsFile = None,
    key_path: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a bundle for a stranger.

    It holds all sealed events, their seals, the public key, and a program that verifies them without the federation: it needs Python 3.9, and
    OpenSSL's command or the package `cryptography`. What has no seal yet is left out.
    """
    if folder.exists():
        raise InvalidInput("FOLDER", str(folder), "a folder that does not exist yet")
    key = _key(key_path)
    filed = _filed(seals_path)
    with _reading() as session, _progress("events", shown=not as_json) as bar:
        written = write(session, folder, key, filed, progress=bar)
    if as_json:
        print_json(json.dumps(asdict(written)))
        return
    _print_export(folder, written)


@app.command("replay")
def replay_log(as_json: AsJson = False) -> None:
    """Rebuild the tables from the events, and compare.

    Reads only. Exit code 1 when a row, or a column of it, is not what the events make of it.
    """
    with _reading() as session, _progress("events", shown=not as_json) as bar:
        replayed = replay(session, progress=bar)
    if as_json:
        print_json(json.dumps({"ok": not replayed.differences, **asdict(replayed)}, indent=2, default=str))
    else:
        _print_replayed(replayed)
    raise typer.Exit(1 if replayed.differences else 0)


@app.command()
def equivocations(as_json: AsJson = False) -> None:
    """Show who signed contraries.

    Each with all of his signatures. Exit code 1 when there is one.
    """
    with _reading() as session:
        found = statements.equivocations(session)
    if as_json:
        print_json(json.dumps([_told(one) for one in found], indent=2, default=str))
    else:
        _print_equivocations(found)
    raise typer.Exit(1 if found else 0)


def _told(one: StatementView) -> dict[str, Any]:
    return {**asdict(one), "signature": base64.b64encode(one.signature).decode()}


def _print_equivocations(found: list[StatementView]) -> None:
    rows = table("who", "about", "action", "signed", "at", "key", "statement")
    for one in found:
        when = f"{one.created_at:%Y-%m-%d %H:%M:%S}"
        rows.add_row(*map(inert, (one.actor, one.subject, one.action, one.choice, when, one.key[:16], one.digest[:16])))
    console.print(rows if found else "[green]Nobody has signed the contrary of what he signed.[/]")
    if found:
        errors.print("Of contrary ballots in a vote that is open neither counts. Of all else the first counted, and nothing followed of the others.")
        errors.print("--json has statements and signatures.")


def _print_replayed(replayed: Replayed) -> None:
    if replayed.differences:
        rows = table("table", "row", "column", "by the events", "in the table")
        for each in replayed.differences:
            rows.add_row(*(inert(str(value)) for value in (each.table, each.key, each.column or "", each.replayed, each.stored)))
        console.print(rows)
    console.print(f"{replayed.events} events make {replayed.rows} rows.")
    console.print(f"state by the events   {replayed.replayed_sha256}")
    console.print(f"state in the tables   {replayed.stored_sha256}")
    console.print(
        f"[red]{len(replayed.differences)} differences.[/]" if replayed.differences else "[green]The tables hold what the events make of them.[/]"
    )


def _print_export(folder: Path, written: Bundle) -> None:
    console.print(f"{written.events} events under {written.seals} seals are in {inert(str(folder))}.")
    console.print("Whoever gets it verifies it with: python3 verify.py")
    console.print(f"The public key is {written.key}; tell it to them by another way.")


def _print(report: Report) -> None:
    if report.findings:
        rows = table("what", "event", "is wrong")
        for finding in report.findings:
            rows.add_row(f"[red]{finding.kind}[/]", "" if finding.number is None else str(finding.number), inert(finding.text))
        console.print(rows)
    filed = "without their file" if report.filed is None else f"{report.filed} in the file"
    console.print(f"{report.events} events, {report.sealed} of them under {report.seals} seals ({filed}), {report.unsealed} not sealed yet.")
    if report.unnumbered:
        console.print(f"{report.unnumbered} more are so new that beat has given them no number yet, or beat does not run.")
    console.print(f"[red]{len(report.findings)} findings.[/]" if report.findings else "[green]Nothing was changed, removed, inserted or moved.[/]")


def _key(path: Path | None) -> PublicKey:
    beats = public_file(key_file(seals_folder(settings())))
    if path is None and not beats.exists():
        raise SettingsError(f"{beats} is not there: nothing is sealed yet, or beat keeps its seals elsewhere; wait for the first seal, or give --key")
    return load_public(path or beats)


def _filed(path: Path | None) -> list[seals.Seal]:
    where = path or seals_file(seals_folder(settings()))
    try:
        return seals.read(where)
    except OSError as error:
        raise SettingsError(f"{where} cannot be read: {error.strerror}; name the file of seals with --seals, or give --database-only") from error


@contextmanager
def _reading() -> Iterator[Session]:
    given = settings()
    name = "database_auditor_url" if given.database_auditor_url else "database_service_url"
    check_database(given, name)
    url = given.database_auditor_url or given.database_service_url
    assert url is not None
    engine = connect(url.get_secret_value(), most=2)
    try:
        with reading(engine) as session:
            yield session
    finally:
        engine.dispose()


@contextmanager
def _progress(what: str, *, shown: bool) -> Iterator["_Bar"]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not (shown and errors.is_terminal)) as progress:
        yield _Bar(progress, what)


class _Bar:
    """Shows how far it is."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress, self._task = progress, progress.add_task(what, total=None)

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)
