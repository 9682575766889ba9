"""`federation session join`, `post`, `propose`, `vote`: several look into one thing, as the agent whose token is set."""

import json
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from federation.cli import inputs
from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, errors, inert, print_json
from federation.cli.operator import transact
from federation.cli.vote import Acknowledge, whole
from federation.services import board, decisions, findings, session_actions, sessions
from federation.services.electorates import DEFAULT_S
from federation.services.findings import Posted, Said
from federation.services.session_actions import ActionView, Proposed
from federation.services.sessions import Start
from federation.store.models.sessions import Category

Reference = Annotated[str, typer.Argument(metavar="ID", help="Id or name of the session.")]
InConversation = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="Its conversation; needed only where the name stands in several.")
]
Confidence = Annotated[float | None, typer.Option(min=0, max=1, help="How sure you are, 0 to 1.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_CONTEXT, _EVIDENCE = '{"task": "errors since 10:15"}', '{"source": "prometheus", "query": "rate(errors[5m])", "result": "0.05"}'


def join(
    reference: Reference,
    *,
    about: Annotated[
        str | None,
        typer.Option("--context", metavar="JSON", help=f"What it is about, such as {_CONTEXT}, @FILE, or - for standard input: begins it, or adds."),
    ] = None,
    focus: Annotated[str | None, typer.Option(help="What you look into.")] = None,
    voter: Annotated[list[str] | None, typer.Option("--voter", help="Of a new one: who votes on actions, each once.")] = None,
    expertise: Annotated[
        list[str] | None,
        typer.Option("--expertise", metavar="NAME=NUMBER", help="Of a new one: how much an agent's findings weigh, else 1."),
    ] = None,
    conversation: Annotated[str | None, typer.Option("--conversation", metavar="ID", help="Its members see it; left out: everybody does.")] = None,
    as_json: AsJson = False,
) -> None:
    """Join a session, or begin one with --context.

    As the agent whose token FEDERATION_TOKEN is. It shows what is known so far.
    """
    start = Start(
        context=None if about is None else inputs.json_object("--context", about, such_as=_CONTEXT),
        voters=voter or None,
        expertise=inputs.weights("--expertise", expertise or []),
    )
    looks_into = None if focus is None else inputs.kept("--focus", focus, longest=inputs.LONGEST_LINE)

    def work(session: Session) -> board.Board:
        return board.board(session, sessions.join(session, reference, start, focus=looks_into, conversation_id=conversation))

    shown = transact_as_agent(work)
    if as_json:
        print_json(json.dumps(asdict(shown), indent=2, default=str))
        return
    for line in board.lines(shown, []):
        console.print(inert(line))
    if shown.findings:
        console.print(inert(f"({shown.findings} findings: federation session show {reference})"))


def post(
    reference: Reference,
    content: Annotated[str, typer.Argument(metavar="TEXT", help="What you found; - reads standard input.")],
    *,
    category: Annotated[Category, typer.Option(help="What it is.")],
    confidence: Confidence = None,
    evidence: Annotated[
        list[str] | None, typer.Option(metavar="JSON", help=f"What it rests on, such as {_EVIDENCE}, or @FILE; may be repeated.")
    ] = None,
    hypothesis: Annotated[UUID | None, typer.Option(metavar="ID", help="The hypothesis that it is about.")] = None,
    validates: Annotated[bool | None, typer.Option("--confirms/--refutes", help="Of a conclusion: what it does to another's hypothesis.")] = None,
    completes: Annotated[bool, typer.Option("--completes", help="It is the session's outcome, and ends it.")] = False,
    name: Annotated[str | None, typer.Option("--id", metavar="NAME", help="A name for it; under the same name it is posted once.")] = None,
    conversation: InConversation = None,
    as_json: AsJson = False,
) -> None:
    """Share what you found with all in a session.

    As the agent whose token FEDERATION_TOKEN is, who has joined it.
    """
    said = Said(
        content=inputs.text("TEXT", content),
        category=category,
        confidence=confidence,
        evidence=[inputs.json_object("--evidence", one, such_as=_EVIDENCE) for one in evidence or []],
        hypothesis_id=hypothesis,
        validates=validates,
    )

    def work(session: Session) -> Posted:
        return findings.post(session, reference, said, slug=name, completes=completes, conversation_id=conversation)

    done = transact_as_agent(work)
    if as_json:
        told = {"finding_id": done.finding.id, "position": done.finding.position, "session": done.session.status}
        print_json(json.dumps({**told, "duplicates": list(map(asdict, done.duplicates))}, indent=2, default=str))
        return
    where = f"{sessions.called(done.session)}, which is {done.session.status}"
    console.print(inert(f"Posted {done.finding.id} in {where}."))
    for one in done.duplicates:
        errors.print(inert(f"{one.agent} had asked {one.source} {one.query!r} before: {json.dumps(one.result, ensure_ascii=False)}"))


def propose(
    reference: Reference,
    content: Annotated[str, typer.Argument(metavar="TEXT", help="What is to be done; - reads standard input.")],
    *,
    kind: Annotated[str, typer.Option("--type", help="query, modify, notify or escalate.")],
    target: Annotated[str | None, typer.Option(help="What it is done to.")] = None,
    parameter: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A further input, each once.")] = None,
    agent: Annotated[str | None, typer.Option(help="The one agent who shall do it; left out: whoever takes it.")] = None,
    at_once: Annotated[bool, typer.Option("--at-once", help="It awaits no approval.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds until the vote on it ends, if not all have voted.")] = DEFAULT_S,
    early: Annotated[bool, typer.Option("--early", help="The vote ends as soon as nothing can change the outcome.")] = False,
    name: Annotated[str | None, typer.Option("--id", metavar="NAME", help="A name for it; under the same name it is proposed once.")] = None,
    conversation: InConversation = None,
    as_json: AsJson = False,
) -> None:
    """Propose what is to be done.

    As the agent whose token FEDERATION_TOKEN is, who has joined the session. Its voters vote on it, more than half of them approve it; without
    voters it awaits approval. Approved, it is for who takes it: `federation task take`, `federation task complete`.
    """
    said = Proposed(
        content=inputs.text("TEXT", content),
        type=kind,
        target=target,
        parameters=inputs.parameters(parameter or []),
        agent=agent,
        requires_approval=not at_once,
        timeout_s=timeout,
        early=early,
    )

    def work(session: Session) -> ActionView:
        task = session_actions.propose(session, reference, said, slug=name, conversation_id=conversation)
        return session_actions.view(session, task)

    _show(transact_as_agent(work), as_json=as_json)


def vote(
    reference: Reference,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="Id or name of the action.")],
    response: Annotated[str | None, typer.Argument(metavar="VOTE", help="yes, no or abstain; left out: look.")] = None,
    *,
    acknowledge: Acknowledge = None,
    confidence: Confidence = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    conversation: InConversation = None,
    as_json: AsJson = False,
) -> None:
    """Vote on a proposed action, once and for good.

    As the agent whose token FEDERATION_TOKEN is, signed with the key of this machine. Without a vote it shows the action, and its hash.
    """

    def look(session: Session) -> ActionView:
        found = sessions.find(session, reference, conversation_id=conversation)
        return session_actions.view(session, session_actions.action(session, found, action))

    def cast(session: Session) -> UUID:
        shown = look(session)
        read = whole(acknowledge or "", shown.vote.options_hash) if shown.vote else ""
        return session_actions.vote(
            session, reference, action, response or "", options_hash=read, confidence=confidence, reason=reason, conversation_id=conversation
        ).vote.id

    if response is not None:
        on_it = transact_as_agent(cast)
        transact(lambda session: decisions.settle(session, on_it))
    _show(transact_as_agent(look), as_json=as_json)


def _show(shown: ActionView, *, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps(asdict(shown), indent=2, default=str))
        return
    told: dict[str, Any] = {"action": shown.slug or shown.action_id, "proposed by": shown.agent, "what": shown.action, "type": shown.type}
    told |= {"target": shown.target, "parameters": shown.parameters or None, "status": shown.status, "waits for": shown.waiting_for}
    if shown.vote is not None:
        told |= {"vote": shown.vote.state, "voted": ", ".join(shown.vote.voted), "hash": shown.vote.options_hash}
        told |= {"yes": shown.vote.votes_for, "no": shown.vote.votes_against, "abstained": shown.vote.abstentions}
    for title, value in told.items():
        if value not in (None, ""):
            # Further lines stand below the first, so that nobody writes lines that look like the others.
            console.print(inert(f"{title:<12} {value}".replace("\n", "\n" + 13 * " ")))
