"""`federation memory`: what the agent whose token is set remembers, added, listed and forgotten; an operator sees none of it."""

import json
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, inert, print_json, table
from federation.services import memories
from federation.services.memories import Recalled
from federation.store.models.cop import Visibility

app = typer.Typer(name="memory", help="Remember, list and forget as an agent.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)

About = Annotated[list[str] | None, typer.Option("--about", metavar="SUBJECT", help="A name that you choose; may be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def add(
    content: Annotated[str, typer.Argument(metavar="TEXT", help="One thing to know later.")],
    *,
    visibility: Annotated[Visibility | None, typer.Option(help="Who may recall it; unset: nobody but the agent.")] = None,
    conversation: Annotated[
        str | None, typer.Option("--conversation", metavar="NAME", help="The members of this conversation may recall it.")
    ] = None,
    about: About = None,
    as_json: AsJson = False,
) -> None:
    """Remember something as the agent whose token FEDERATION_TOKEN is."""
    made = transact_as_agent(
        lambda session: memories.remember(session, content, visibility=visibility, conversation_id=conversation, about=about or ())
    )
    if as_json:
        print_json(json.dumps(asdict(made), indent=2, default=str))
        return
    console.print(inert(f"{'Remembered' if made.new else 'Remembered before'} as {made.memory_id}, for {_readers(made.visibility, made.audience)}."))


@app.command("list")
def list_(
    query: Annotated[
        str | None, typer.Argument(metavar="WORDS", help="Only what has some of these words, the best first; without: the latest.")
    ] = None,
    *,
    about: About = None,
    limit: Annotated[int, typer.Option(min=1, max=50, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what that agent may recall.

    It is found by words alone; federation_recall finds by meaning too.
    """

    def read(session: Session) -> list[Recalled]:
        if query is None:
            return memories.latest(session, about=about or (), limit=limit)
        return memories.show(session, memories.by_words(session, query, about=about or (), limit=limit))

    found = transact_as_agent(read)
    if as_json:
        print_json(json.dumps({"memories": [asdict(each) for each in found]}, indent=2, default=str))
        return
    rows = table("id", "at", "by", "for", "about", "content")
    for each in found:
        at, readers = f"{each.created_at:%Y-%m-%d %H:%M:%S}", _readers(each.visibility, each.audience)
        rows.add_row(*map(inert, (each.memory_id, at, each.by, readers, ", ".join(each.about), each.content)))
    console.print(rows if found else "Nothing is remembered.")


@app.command()
def forget(memory: Annotated[UUID, typer.Argument(metavar="ID", help="As the list shows it.")]) -> None:
    """Forget a memory of that agent's: its text is gone.

    Exit code 1: there is none, or it is another's.
    """
    transact_as_agent(lambda session: memories.forget(session, memory))
    console.print(f"Forgotten: {memory}.")


def _readers(visibility: Visibility, audience: str) -> str:
    match visibility:
        case Visibility.ALL:
            return "all"
        case Visibility.MEMBERS:
            return f"members of {audience}"
        case Visibility.ROLE:
            return f"role {audience}"
        case Visibility.NOBODY:
            return f"{audience} alone"
