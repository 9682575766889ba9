"""`federation cache`: the answers of models that are given again, as an operator sees them, and how one goes before its time."""

import json
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer

from federation.cli.console import console, errors, inert, print_json, table
from federation.cli.operator import transact
from federation.services import cached_answers

app = typer.Typer(
    name="cache",
    help="Show and drop the answers of models that are given again.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command("list")
def list_answers(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most, those that were given last.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the answers that are kept.

    As an operator, so with prompts and answers; those first that were kept or given last.
    """
    found = transact(lambda session: cached_answers.listed(session, limit=limit))
    if as_json:
        print_json(json.dumps({"answers": list(map(asdict, found))}, indent=2, default=str))
        return
    rows = table("id", "kept at", "last given", "for", "model", "prompt", "answer")
    for each in found:
        moments = (f"{moment:%Y-%m-%d %H:%M:%S}" for moment in (each.created_at, each.used_at))
        readers = f"members of {each.conversation_id}" if each.conversation_id else f"{each.by} alone"
        rows.add_row(*map(inert, (each.execution_id, *moments, readers, each.model, each.prompt, each.completion)))
    console.print(rows if found else "No answer is kept.")
    if len(found) == limit:
        errors.print(f"There may be more: --limit {2 * limit}")


@app.command()
def drop(
    answers: Annotated[list[UUID] | None, typer.Argument(metavar="[ID]...", help="As the list shows them.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are kept.")] = False,
) -> None:
    """Drop answers, so that they are not given again.

    As an operator. Exit code 1: one of them is not there, and none is dropped.
    """
    if everything is bool(answers):
        raise typer.BadParameter("name answers by their ids, or all of them by --all")
    count = transact(lambda session: cached_answers.remove(session, None if everything else answers))
    console.print(f"Dropped: {count}.")
