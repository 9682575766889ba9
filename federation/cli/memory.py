"""`federation memory`: what the agent whose token is set remembers, added, listed and forgotten; of its words an operator sees none."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, errors, inert, print_json, table
from federation.cli.operator import transact
from federation.errors import InvalidInput
from federation.services import memories, memory_care
from federation.services.memories import Page
from federation.store.models.cop import Visibility

app = typer.Typer(name="memory", help="Remember, list and forget as an agent.", no_args_is_help=True, add_completion=False, rich_markup_mode=None)

About = Annotated[list[str] | None, typer.Option("--about", metavar="SUBJECT", help="A name that you choose; may be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsOperator = Annotated[
    bool,
    typer.Option(
        "--as-operator", help="As you and not as an agent: of all memories, and what an operator may see or do, which is not what they say."
    ),
]


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
    before: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S%z"], metavar="MOMENT", help="Only those before that.")
    ] = None,
    as_operator: AsOperator = False,
    as_json: AsJson = False,
) -> None:
    """List what that agent may recall.

    It is found by words alone; federation_recall finds by meaning too.
    """
    if query is not None and before is not None:
        raise InvalidInput("--before", before.isoformat(), "no words beside it: those are ranked, and not in the order of time")
    if as_operator:
        if query is not None or about:
            raise InvalidInput("--as-operator", query or about, "neither words nor subjects beside it: those are for agents to read")
        _list_for_operator(before, limit, as_json=as_json)
        return

    def read(session: Session) -> Page:
        if query is None:
            return memories.latest(session, about=about or (), before=before, limit=limit)
        return Page(memories.show(session, memories.by_words(session, query, about=about or (), limit=limit)), None)

    page = transact_as_agent(read)
    if as_json:
        print_json(json.dumps(asdict(page), indent=2, default=str))
        return
    rows = table("id", "at", "by", "for", "about", "content")
    for each in page.memories:
        at, readers = f"{each.created_at:%Y-%m-%d %H:%M:%S}", _readers(each.visibility, each.audience)
        rows.add_row(*map(inert, (each.memory_id, at, each.by, readers, ", ".join(each.about), each.content)))
    console.print(rows if page.memories else "Nothing is remembered.")
    if page.before is not None:
        errors.print(f"There are more: --before {page.before.isoformat()}")


def _list_for_operator(before: datetime | None, limit: int, *, as_json: bool) -> None:
    found = transact(lambda session: memory_care.listed(session, before=before, limit=limit))
    if as_json:
        print_json(json.dumps({"memories": list(map(asdict, found))}, indent=2, default=str))
        return
    rows = table("id", "at", "by", "for", "found by meaning")
    for each in found:
        meaning = "yes" if each.embedded else f"no, given up: {each.given_up}" if each.given_up else "not yet"
        rows.add_row(
            *map(inert, (each.memory_id, f"{each.created_at:%Y-%m-%d %H:%M:%S}", each.by, _readers(each.visibility, each.audience), meaning))
        )
    console.print(rows if found else "Nothing is remembered.")
    if len(found) == limit:
        errors.print(f"There may be more: --before {found[-1].created_at.isoformat()}")


@app.command()
def forget(memory: Annotated[UUID, typer.Argument(metavar="ID", help="As the list shows it.")], as_operator: AsOperator = False) -> None:
    """Forget a memory of that agent's: its text is gone.

    An operator removes what an agent remembered for others, such as one that has no token any more. Exit code 1: there is none, or it is another's.
    """
    if as_operator:
        transact(lambda session: memory_care.remove(session, memory))
    else:
        transact_as_agent(lambda session: memories.forget(session, memory))
    console.print(f"Forgotten: {memory}.")


@app.command()
def embed(
    everything: Annotated[bool, typer.Option("--all", help="Of all memories: the folder of vectors is gone, or the model is another one.")] = False,
) -> None:
    """Have memories embedded of which that was given up.

    As an operator. Beat tries each four times within some seventy minutes; until it is embedded a memory is found by its words alone.
    """
    count = transact(lambda session: memory_care.request_embedding(session, everything=everything))
    console.print(f"{count} to be embedded." if count else "There is none of which it was given up.")


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
