"""`federation ask`: asks as the agent whose token is set, and waits for the one answer."""

import json
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from federation.cli import inputs
from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, errors, inert, print_json
from federation.cli.send import AsJson, Name, To, ToCapable, ToRole, Where, addressee
from federation.cli.waiting import Wait, until
from federation.errors import InvalidInput
from federation.services import messages, requests
from federation.services.requests import SUCCESS, Answer
from federation.store.context import context
from federation.store.models.conversations import MessageType


def ask(
    content: Annotated[str | None, typer.Argument(metavar="TEXT", help="What you ask; - reads standard input.")] = None,
    *,
    result: Annotated[UUID | None, typer.Option("--result", metavar="ID", help="Ask nothing: the answer to what you asked before.")] = None,
    to: To = None,
    role: ToRole = None,
    capability: ToCapable = None,
    parameter: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="What you ask, for programs, each once.")] = None,
    conversation: Where = None,
    name: Name = None,
    wait_s: Wait = 60,
    as_json: AsJson = False,
) -> None:
    """Ask as the agent whose token FEDERATION_TOKEN is, and wait for the answer.

    The answer is the first success of whoever was asked. If it is late you get the request's id: read it with --result ID, or in your inbox.

    Exit code 1: no answer yet, or whoever was asked could not.
    """
    if (content is None) == (result is None):
        raise InvalidInput("TEXT", content, "what you ask, or --result ID and no text")
    if result is not None and any((to, role, capability, parameter, conversation, name)):
        raise InvalidInput("--result", str(result), "nothing beside it but --wait: it was asked before")
    whom, given = addressee(to, role, capability), inputs.parameters(parameter or [])
    said = None if content is None else inputs.text("TEXT", content)

    def put(session: Session) -> tuple[UUID, str]:
        me = context(session).actor
        if result is not None:
            return requests.own(session, result).id, me
        body = {"parameters": given} if given else {}
        return messages.send(
            session, said, to=whom, message_type=MessageType.REQUEST, conversation_id=conversation, body=body, slug=name
        ).message_id, me

    request, me = transact_as_agent(put)
    answer = until(lambda: transact_as_agent(lambda session: requests.answer(session, request)), notice=f"inbox:{me}", wait_s=wait_s)
    waits = None if answer else transact_as_agent(lambda session: requests.waits_for(session, request))
    if as_json:
        told = {"request_id": request, "state": "answered" if answer else "waiting", "answer": answer and asdict(answer), "waiting_for": waits}
        print_json(json.dumps(told, indent=2, default=str))
    elif answer:
        _show(answer)
    else:
        errors.print(inert(f"federation: no answer yet to {request}; it awaits {waits}: federation ask --result {request} --wait 60"))
    raise typer.Exit(0 if answer and answer.status == SUCCESS else 1)


def _show(answer: Answer) -> None:
    errors.print(inert(f"{answer.sender} answers ({answer.status}, {'signed' if answer.signed else 'attested'}):"))
    console.print(inert(answer.content))
    if answer.result is not None:
        console.print(inert(json.dumps(answer.result, ensure_ascii=False)))
