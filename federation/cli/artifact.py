"""`federation artifact`: files that conversations share, put, got and listed as the agent or person whose token is set."""

import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.orm import Session

from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, errors, inert, print_json, table
from federation.errors import InvalidInput
from federation.services import artifacts
from federation.services.artifacts import ArtifactView, Offered
from federation.settings import settings
from federation.store import contents
from federation.store.models.artifacts import Kind

app = typer.Typer(
    name="artifact", help="Put, get and list files that conversations share.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

Conversation = Annotated[str, typer.Argument(metavar="CONVERSATION", help="Whose members see it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
# Smaller ones are there before one could look.
SHOWN_FROM_BYTES = 2**24


@app.command()
def put(
    conversation: Conversation,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What is put.")],
    *,
    name: Annotated[str | None, typer.Option("--name", help="What it is called there; left out: the name of the file.")] = None,
    kind: Annotated[Kind, typer.Option(help="Which part of the bundle it is.")] = Kind.OTHER,
    media_type: Annotated[str | None, typer.Option("--type", help="Its media type; left out: by the name's ending.")] = None,
    task: Annotated[str | None, typer.Option(metavar="ID", help="The task that it came of.")] = None,
    expected_version: Annotated[
        int | None,
        typer.Option(min=0, max=2**31 - 1, help="The version that you got, 0 for none: if there is another by now, nothing is put."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Share a file with the members of a conversation, for good.

    The same name again is its next version, the same content again changes nothing. As the agent whose token is in FEDERATION_TOKEN.
    """
    called = file.name if name is None else name
    offered = Offered(conversation_id=conversation, name=called, kind=kind, media_type=media_type, task=task, expected_version=expected_version)
    with _readable(file) as source:
        size = os.fstat(source.fileno()).st_size
        transact_as_agent(lambda session: artifacts.admit(session, offered, size=size))
        with _progress("put", size, shown=not as_json) as bar:
            stored = contents.contents(settings()).put(source, size, progress=bar)
    made = transact_as_agent(lambda session: artifacts.record(session, offered, stored))
    _show(made, f"{made.name} is version {made.version} in {conversation}", as_json=as_json)


@app.command()
def get(
    conversation: Conversation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called there.")],
    *,
    version: Annotated[int | None, typer.Option(min=1, max=2**31 - 1, help="Which version; left out: the latest.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Where it is written; left out: here, under the last part of its name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also over a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a shared file to a file of yours, checked against its SHA-256.

    One that was altered is not written at all. As the agent whose token is in FEDERATION_TOKEN.
    """
    found = transact_as_agent(lambda session: artifacts.find(session, conversation, name, version))
    target = to or Path(PurePosixPath(found.name).name)
    if not target.name:
        raise InvalidInput("--to", str(to), "a file, with its name")
    if os.path.lexists(target) and not force:
        raise InvalidInput("--to", str(target), "a file that is not there yet, or --force")
    draft = target.with_name(f".federation-{uuid.uuid4().hex}")
    try:
        # As closed as the folder that it comes from.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as into, _progress("get", found.size, shown=not as_json) as bar:
            for piece in contents.contents(settings()).pieces(found.sha256):
                into.write(piece)
                bar(into.tell())
        if force:
            draft.replace(target)
        else:
            # Unlike a renaming it replaces nothing, also not what has appeared meanwhile.
            os.link(draft, target)
    except FileExistsError as error:
        raise InvalidInput("--to", str(target), "a file that is not there yet, or --force; one has appeared meanwhile") from error
    except OSError as error:
        raise InvalidInput("--to", str(target), f"a file that can be written ({error.strerror})") from error
    finally:
        # It may have been renamed, never made, or be the target's other name.
        with suppress(OSError):
            draft.unlink()
    _show(found, f"Version {found.version} of {found.name} is in {target}", as_json=as_json)


@app.command("list")
def list_artifacts(
    conversation: Conversation,
    after: Annotated[str, typer.Option(metavar="NAME", help="Only those behind this name, as the answer before has it.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 200,
    as_json: AsJson = False,
) -> None:
    """List what a conversation shares, each in its latest version.

    As the agent whose token is in FEDERATION_TOKEN.
    """

    def look(session: Session) -> tuple[list[ArtifactView], bool]:
        return artifacts.page(session, conversation, after=after, limit=limit)

    found, more = transact_as_agent(look)
    bundle = artifacts.bundle(found)
    if as_json:
        print_json(json.dumps({kind: list(map(asdict, listed)) for kind, listed in bundle.items()}, indent=2, default=str))
    else:
        rows = table("kind", "name", "version", "bytes", "by", "at", "SHA-256")
        for one in (one for listed in bundle.values() for one in listed):
            told = (one.kind, one.name, one.version, one.size, one.created_by, f"{one.created_at:%Y-%m-%d %H:%M:%S}", one.sha256)
            rows.add_row(*map(inert, told))
        console.print(rows if found else inert(f"Nothing is shared in {conversation}."))
    if more:
        errors.print(inert(f"There are more: --after {found[-1].name!r}"))


def _show(one: ArtifactView, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps(asdict(one), indent=2, default=str))
    else:
        console.print(inert(f"{what}: {one.size} bytes, SHA-256 {one.sha256}"))


@contextmanager
def _readable(file: Path) -> Iterator[BinaryIO]:
    try:
        # A pipe would be waited for, and has no size.
        opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput("FILE", str(file), f"a file that can be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise InvalidInput("FILE", str(file), "a plain file")
    with open(opened, "rb") as source:
        yield source


@contextmanager
def _progress(what: str, size: int, *, shown: bool) -> Iterator[contents.Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    seen = shown and errors.is_terminal and size >= SHOWN_FROM_BYTES
    with Progress(*columns, console=errors, transient=True, disable=not seen) as progress:
        bar = progress.add_task(what, total=size)
        yield lambda done: progress.update(bar, completed=done)
