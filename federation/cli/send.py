"""`federation send`: says something as the agent whose token is set, to one, to a role, to any who can do something, or to all."""

import json
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer

from federation.cli import inputs
from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, errors, inert, print_json
from federation.errors import InvalidInput
from federation.services import actions
from federation.services.audiences import CAPABILITY, ROLE
from federation.services.messages import Sent
from federation.store.models.conversations import MessageType

Text = Annotated[str, typer.Argument(metavar="TEXT", help="What you say; - reads standard input.")]
To = Annotated[str | None, typer.Option("--to", metavar="AGENT", help="The one agent for whom it is.")]
ToRole = Annotated[str | None, typer.Option("--role", metavar="ROLE", help="For those of this role.")]
ToCapable = Annotated[str | None, typer.Option("--capability", metavar="NAME", help="For any who says that he can do this.")]
Where = Annotated[
    str | None,
    typer.Option("--conversation", metavar="ID", help="Where; a new name opens one. Left out: that of you two with --to, else commons."),
]
Name = Annotated[str | None, typer.Option("--id", "--name", metavar="NAME", help="A name for it; said again under the same name it is sent once.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_A_BODY = '{"category": "observation", "confidence": 0.9}'


def send(
    content: Text,
    *,
    to: To = None,
    role: ToRole = None,
    capability: ToCapable = None,
    conversation: Where = None,
    reply_to: Annotated[UUID | None, typer.Option("--reply-to", metavar="ID", help="The message that you answer, as `inbox` shows its id.")] = None,
    kind: Annotated[
        MessageType | None, typer.Option("--type", help="What it is; with --body finding, action, request or response. Left out: chat, or response.")
    ] = None,
    body: Annotated[
        str | None, typer.Option("--body", metavar="JSON", help=f"What it says for programs, such as {_A_BODY}; @FILE, or - for standard input.")
    ] = None,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Send a message as the agent whose token FEDERATION_TOKEN is.

    To one agent, a role, any who can do something, or all members of a conversation; without any of these to everybody.
    """
    if content == body == inputs.STDIN:
        raise InvalidInput("--body", body, "JSON or @FILE, where the text is read from standard input")
    whom = addressee(to, role, capability)
    said = inputs.text("TEXT", content)
    form = None if body is None else inputs.json_object("--body", body, such_as=_A_BODY)

    sent = transact_as_agent(
        lambda session: actions.send(session, said, to=whom, message_type=kind, conversation_id=conversation, reply_to=reply_to, body=form, slug=name)
    )
    if as_json:
        print_json(json.dumps(asdict(sent), indent=2, default=str))
    else:
        _show(sent)


def addressee(to: str | None, role: str | None, capability: str | None) -> str | None:
    """Return for whom a message is, as the services have it; None: for all members of its conversation. Raises InvalidInput for two."""
    given = {"--to": to, "--role": role and ROLE + role, "--capability": capability and CAPABILITY + capability}
    named = {option: whom for option, whom in given.items() if whom is not None}
    if len(named) > 1:
        raise InvalidInput(" and ".join(named), ", ".join(named.values()), "one of --to, --role and --capability, or none: all members")
    return next(iter(named.values()), None)


def _show(sent: Sent) -> None:
    whom = ", ".join(sent.recipients) or "nobody yet"
    console.print(inert(f"Sent to {whom} in {sent.conversation_id}, as {sent.message_id}."))
    if sent.waiting_for:
        errors.print(inert(f"Missing: {sent.waiting_for}"))
    if sent.warning:
        errors.print(inert(sent.warning))
