"""`federation session`: lists the sessions of all conversations and shows what is known in one, for an operator; ends one.

Taking part is done by commands of another file.
"""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from federation.cli import session_work
from federation.cli.acting import name, transact_as
from federation.cli.console import console, inert, print_json, table
from federation.cli.operator import transact
from federation.errors import InvalidInput, NotFound
from federation.services import board, findings, sessions
from federation.services.board import Board, FindingView
from federation.services.charter import is_agent
from federation.store.context import context
from federation.store.models.sessions import AgentFinding, AgentSession

app = typer.Typer(
    name="session",
    help="Look into something together: join, post, propose, vote; list, show and end.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

app.command()(session_work.join)
app.command()(session_work.post)
app.command()(session_work.propose)
app.command()(session_work.vote)

Reference = session_work.Reference
AsJson = session_work.AsJson
InConversation = session_work.InConversation
_LISTED = ("name", "status", "initiator", "started", "participants", "findings", "conversation_id")


@app.command("list")
def list_sessions(
    only_active: Annotated[bool, typer.Option("--active", help="Only those that are not completed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the latest sessions."""

    def look(session: Session) -> list[dict[str, object]]:
        return [_line(board.board(session, found)) for found in sessions.latest(session, only_active=only_active, limit=limit)]

    found = transact(look)
    if as_json:
        print_json(json.dumps(found, indent=2, default=str))
        return
    rows = table("session", "status", "begun by", "at", "take part", "findings", "in")
    for one in found:
        rows.add_row(*(inert(one[name]) for name in _LISTED))
    console.print(rows if found else "No session is active." if only_active else "There is no session yet.")


def _line(shown: Board) -> dict[str, object]:
    return {
        "name": shown.slug or str(shown.session_id),
        "id": shown.session_id,
        "status": shown.status,
        "initiator": shown.initiator,
        "started": f"{shown.started:%Y-%m-%d %H:%M:%S}",
        "participants": len(shown.participants),
        "findings": shown.findings,
        "conversation_id": shown.conversation_id,
    }


@app.command()
def show(
    reference: Reference,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many findings at most, the oldest first.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Show what is known in a session, as a blackboard."""

    def look(session: Session) -> tuple[Board, list[FindingView]]:
        found = _located(session, reference)
        return board.board(session, found), [board.finding_view(one) for one in _all(session, found, limit)]

    shown, told = transact(look)
    if as_json:
        print_json(json.dumps({**asdict(shown), "findings": [asdict(one) for one in told]}, indent=2, default=str))
        return
    for line in board.lines(shown, told):
        console.print(inert(line))
    if len(told) < shown.findings:
        console.print(f"({shown.findings - len(told)} more findings: --limit)")


def _all(session: Session, found: AgentSession, limit: int) -> list[AgentFinding]:
    told: list[AgentFinding] = []
    more = True
    while more and len(told) < limit:
        page, more = findings.page(session, found, after=told[-1].position if told else 0, limit=min(200, limit - len(told)))
        told += page
    return told


@app.command()
def complete(
    reference: Reference,
    *,
    reason: Annotated[str, typer.Option(help="What came of it, for those who take part.")],
    conversation: InConversation = None,
    as_json: AsJson = False,
) -> None:
    """End a session: nothing is posted or proposed in it any more.

    In the name of the agent whose token is in FEDERATION_TOKEN, who began it or may end what others asked for, else in yours, an operator's.
    """

    def work(session: Session) -> dict[str, object]:
        found = _meant(session, reference, conversation)
        sessions.require_may_complete(session, found)
        outcome = {"conclusion": reason, "completed_by": context(session).actor}
        return _line(board.board(session, sessions.complete(session, found, outcome)))

    told = transact_as(name(), work)
    if as_json:
        print_json(json.dumps(told, indent=2, default=str))
    else:
        console.print(inert(f"Completed {reference}."))


def _meant(session: Session, reference: str, conversation: str | None) -> AgentSession:
    """Return the session that an agent means, of those that it may see, or an operator. Raises as `_located`, Conflict, Refused."""
    if is_agent(context(session).actor):
        return sessions.find(session, reference, conversation_id=conversation)
    return _located(session, reference, conversation)


def _located(session: Session, reference: str, conversation: str | None = None) -> AgentSession:
    found = [one for one in sessions.anywhere(session, reference) if conversation in {None, one.conversation_id}]
    if len(found) > 1:
        where = ", ".join(f"{one.conversation_id} ({one.id})" for one in found)
        raise InvalidInput("ID", reference, f"an id, because the name stands in {where}")
    if not found:
        raise NotFound("session", reference, [sessions.called(one) for one in sessions.latest(session, limit=1000)])
    return found[0]
