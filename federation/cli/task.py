"""`federation task`: shows tasks, executions and the quarantine, approves and rejects, cancels, sends again or dismisses what was put aside.

Work is handed out and done by commands of another file.
"""

import json
import uuid
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.cli import task_work
from federation.cli.acting import name, transact_as
from federation.cli.console import console, errors, inert, print_json, table
from federation.cli.operator import transact
from federation.errors import InvalidInput, NotFound, PermanentError
from federation.services import approvals, executions, quarantine, references, statements, task_ends, task_lists, task_trees
from federation.services.approvals import Decision
from federation.services.charter import is_agent
from federation.store.context import context
from federation.store.models.events import Event
from federation.store.models.executions import Execution
from federation.store.models.tasks import AgentTask, TaskStatus

app = typer.Typer(
    name="task", help="Hand out, do, show, approve, cancel and redrive tasks.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

app.command()(task_work.delegate)
app.command()(task_work.assign)
app.command()(task_work.take)
app.command("give-back")(task_work.give_back)
app.command()(task_work.complete)

Reference = Annotated[str, typer.Argument(metavar="ID", help="Id or name of a task, or id of an execution.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
InConversation = task_work.InConversation
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")]

_LISTED = ("name", "status", "assigned_to", "created_by", "conversation_id", "description")
_OF_A_TASK = ("id", "slug", "conversation_id", "description", "task_type", "priority", "executor", "status", "assigned_to", "created_by")
_OF_ITS_TERMS = (
    "parent_id",
    "parameters",
    "requirements",
    "capability",
    "look_up",
    "reserved_for",
    "handed_to",
    "start_at",
    "timeout_s",
    "expires_at",
)
_OF_A_DECISION = ("requires_approval", "decided_by", "decision_reason")
_OF_AN_ENTRY = ("id", "task_name", "queue", "worker", "reason", "created_at")


@app.command("list")
def list_tasks(
    status: Annotated[str | None, typer.Option(metavar="STATUS", help=f"Only tasks that are {', '.join(TaskStatus)}.")] = None,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Executions that were put aside, with the reason.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the latest tasks, or what is quarantined."""
    if status is not None and status not in set(TaskStatus):
        raise InvalidInput("--status", status, "one of " + ", ".join(TaskStatus))
    if quarantined:
        _show_quarantine(transact(lambda session: quarantine.listed(session, limit=limit)), as_json=as_json)
        return
    found = transact(lambda session: [_told(session, task) for task in task_lists.latest(session, statuses=[status] if status else (), limit=limit)])
    if as_json:
        print_json(json.dumps(found, indent=2, default=str))
        return
    rows = table("task", "status", "has it", "by", "in", "what")
    for task in found:
        task["assigned_to"] = task["assigned_to"] or (task["waiting_for"] and f"({task['waiting_for']})")
        rows.add_row(*(inert(str(task[key] or "")) for key in _LISTED))
    console.print(rows if found else "There is no task yet." if status is None else f"No task is {status}.")


@app.command()
def show(reference: Reference, as_json: AsJson = False) -> None:
    """Show all that is known of one of them.

    Of a task, an execution or a quarantined message.
    """
    told = transact(lambda session: _story(session, reference))
    if as_json:
        print_json(json.dumps(told, indent=2, default=str))
        return
    for title, fields in told.items():
        console.print(f"[bold]{inert(title)}[/]")
        if isinstance(fields, list):
            for line in fields:
                payload = json.dumps(line["payload"], default=str)
                console.print(inert(f"  {line['at']:%Y-%m-%d %H:%M:%S}  {line['type']:<28} {line['actor']:<18} {payload}"))
        else:
            for name, value in fields.items():
                # Further lines stand below the first, so that nobody writes lines that look like the others.
                told_so = "" if value is None else str(value).replace("\n", "\n" + 19 * " ")
                console.print(inert(f"  {name:<16} {told_so}"))


@app.command()
def cancel(
    reference: Reference,
    *,
    reason: Annotated[str, typer.Option(help="Why, for those who read it later.")] = "",
    conversation: InConversation = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a task or an execution, in a queue or running.

    What it still does has no effect. In the name of the agent whose token is in FEDERATION_TOKEN, else in yours, an operator's.
    """

    def work(session: Session) -> bool:
        found = _meant(session, reference, conversation)
        if isinstance(found, Execution):
            return task_ends.cancel_execution(session, found, reason=reason)
        task_ends.require_may_cancel(session, found)
        before = found.status
        return task_ends.end_unwanted(session, found, reason=reason).status != before

    done = transact_as(name(), work)
    if as_json:
        print_json(json.dumps({"id": reference, "cancelled": done}))
    else:
        console.print(inert(f"Cancelled {reference}." if done else f"{reference} had ended already; nothing was changed."))


Reason = Annotated[str, typer.Option(help="Why, for who asked for it.")]


@app.command()
def approve(reference: Reference, *, reason: Reason = "", conversation: InConversation = None, as_json: AsJson = False) -> None:
    """Let a task begin that awaits approval.

    In the name of the agent whose token is in FEDERATION_TOKEN, and whose role may approve, else in yours, an operator's.
    """
    _decide(reference, conversation, Decision.APPROVE, reason, as_json=as_json)


@app.command()
def reject(
    reference: Reference,
    *,
    reason: Annotated[str, typer.Option(help="Why, for who asked for it.")],
    conversation: InConversation = None,
    as_json: AsJson = False,
) -> None:
    """End a task that awaits approval.

    In the name of the agent whose token is in FEDERATION_TOKEN, and whose role may approve, else in yours, an operator's.
    """
    _decide(reference, conversation, Decision.REJECT, reason, as_json=as_json)


def _decide(reference: str, conversation: str | None, decision: Decision, reason: str, *, as_json: bool) -> None:
    def work(session: Session) -> dict[str, Any]:
        found = _meant(session, reference, conversation)
        if isinstance(found, Execution):
            raise InvalidInput("ID", reference, "the id or the name of a task; an execution awaits no approval")
        approvals.require_decider(session, found)
        return _told(session, approvals.settle(session, found, decision, reason=reason))

    told = transact_as(name(), work)
    if as_json:
        print_json(json.dumps(told, indent=2, default=str))
    else:
        console.print(inert(f"Approved {reference}: it begins." if decision is Decision.APPROVE else f"Rejected {reference}: it has ended."))


@app.command()
def redrive(
    reference: Annotated[str | None, typer.Argument(metavar="ID", help="Id of the execution, or of its entry in the quarantine.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is quarantined and can be sent again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send quarantined executions again.

    They keep their ids, so that the effects that they had stay the only ones; what they failed before counts no more.
    """
    if (reference is None) == (not everything):
        raise InvalidInput("ID", reference or "nothing", "the id of one execution, or --all and no id")
    sent, left = _redriven([_uuid(reference)] if reference is not None else transact(_redrivable))
    if as_json:
        print_json(json.dumps({"redriven": sent, "left": left}))
    elif sent or not left:
        console.print(f"Sent again: {', '.join(sent)}" if sent else "There is nothing to send again.")
    for reason in left.values():
        errors.print(inert(f"federation: {reason}"))
    raise typer.Exit(1 if left else 0)


@app.command()
def dismiss(
    reference: Annotated[str, typer.Argument(metavar="ID", help="Id of the execution, or of its entry in the quarantine.")],
    reason: Annotated[str, typer.Option(help="Why nothing is to be done about it, for those who read it later.")],
    as_json: AsJson = False,
) -> None:
    """Take a message from the list of what is quarantined.

    It is still shown by its id, with the reason, and can still be sent again.
    """
    done = [str(one) for one in transact(partial(quarantine.dismiss, reference=_uuid(reference), reason=reason))]
    if as_json:
        print_json(json.dumps({"dismissed": done}))
    else:
        console.print(inert(f"Dismissed {reference}."))


def _redriven(wanted: list[uuid.UUID]) -> tuple[list[str], dict[str, str]]:
    """Send these again, each in a transaction of its own: what cannot be holds up no other. Return what was sent, and why what was not."""
    sent, left = [], {}
    for one in wanted:
        try:
            sent.append(str(transact(partial(quarantine.redrive, reference=one))))
        except PermanentError as error:
            left[str(one)] = str(error)
    return sent, left


def _redrivable(session: Session) -> list[uuid.UUID]:
    entries = quarantine.listed(session, limit=10_000)
    return [entry.id for entry in entries if entry.execution_id is not None and session.get(Execution, entry.execution_id) is not None]


def _show_quarantine(entries: list[quarantine.Entry], *, as_json: bool) -> None:
    if as_json:
        shown = [{name: getattr(entry, name) for name in entry.__slots__} for entry in entries]
        print_json(json.dumps(shown, indent=2, default=str))
        return
    rows = table("execution", "task", "queue", "when", "why")
    for entry in entries:
        cells = (str(entry.execution_id or entry.id), entry.task_name or "", entry.queue, f"{entry.created_at:%Y-%m-%d %H:%M}", entry.reason)
        rows.add_row(*map(inert, cells))
    console.print(rows if entries else "Nothing is quarantined.")
    if entries:
        errors.print("See one with `federation task show ID`; then `federation task redrive ID`, or `federation task dismiss ID --reason WHY`.")


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise InvalidInput("ID", text, "the id of an execution, as `federation task list --quarantined` shows it") from error


def _meant(session: Session, reference: str, conversation: str | None) -> AgentTask | Execution:
    """Return the task or the execution that an agent means, of those that it may see, or an operator. Raises as `_located`, Conflict, Refused."""
    if is_agent(context(session).actor):
        return references.located(session, reference, conversation)
    return _located(session, reference, conversation)


def _located(session: Session, reference: str, conversation: str | None = None) -> AgentTask | Execution:
    """Return the task or the execution of this id or name. Raises NotFound, InvalidInput for a name that stands in several conversations."""
    try:
        reference.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("ID", ascii(reference), "text in UTF-8") from error
    found = [task for task in task_lists.anywhere(session, reference) if conversation in {None, task.conversation_id}]
    if len(found) > 1:
        where = ", ".join(f"{task.conversation_id} ({task.id})" for task in found)
        raise InvalidInput("ID", reference, f"an id, because the name stands in {where}")
    if found:
        return found[0]
    with suppress(ValueError):
        if (execution := session.get(Execution, uuid.UUID(reference))) is not None:
            return execution
    raise NotFound("task", reference, [task.slug or str(task.id) for task in task_lists.latest(session, limit=1000)])


def _told(session: Session, task: AgentTask) -> dict[str, Any]:
    rest = {name: getattr(task, name) for name in (*_OF_A_TASK, *_OF_ITS_TERMS, *_OF_A_DECISION, "created_at", "completed_at", "result")}
    return {"name": task.slug or str(task.id), **rest, "waiting_for": approvals.waits_for(session, task)}


def _story(session: Session, reference: str) -> dict[str, Any]:
    try:
        found = _located(session, reference)
    except NotFound:
        try:
            return _story_of_entry(session, uuid.UUID(reference))
        except (ValueError, NotFound):
            pass
        raise
    told: dict[str, Any] = {}
    streams = []
    if isinstance(found, AgentTask):
        parts = task_trees.tree(session, found)
        told[f"task {found.slug or found.id}"] = {**_told(session, found), "overall": parts.overall} if parts.parts else _told(session, found)
        told |= {"parts": {_named(part): _line(part) for part in parts.parts}} if parts.parts else {}
        if stated := statements.about(session, f"task:{found.id}"):
            told["stated"] = [_stated(one) for one in stated]
        streams.append(f"task:{found.id}")
    for one in executions.of_task(session, found.id) if isinstance(found, AgentTask) else [found.id]:
        view = executions.state(session, one)
        told[f"execution {one}"] = {name: getattr(view, name) for name in view.__slots__ if name not in {"value", "kept"}}
        streams.append(f"execution:{one}")
        with suppress(NotFound):  # few are in the quarantine
            told |= _story_of_entry(session, one)
    columns = (Event.created_at, Event.type, Event.actor, Event.payload)
    events = session.execute(select(*columns).where(Event.stream.in_(streams)).order_by(Event.sequence))
    return told | {"events": [{"at": at, "type": kind, "actor": actor, "payload": payload} for at, kind, actor, payload in events]}


def _named(part: task_trees.Part) -> str:
    return "  " * (part.level - 1) + (part.slug or str(part.task_id))


def _line(part: task_trees.Part) -> str:
    return f"{part.state}{f', {part.assigned_to}' if part.assigned_to else ''}: {part.description}"


def _stated(one: statements.StatementView) -> dict[str, Any]:
    # In the form of an event, and as short.
    told = {"choice": one.choice, "key": one.key[:16], "statement": one.digest[:16]}
    whose = {} if one.attested_by is None else {"attested_by": one.attested_by}
    return {"at": one.created_at, "type": f"{one.action}: {one.mode}", "actor": one.actor, "payload": {**told, **whose}}


def _story_of_entry(session: Session, reference: uuid.UUID) -> dict[str, Any]:
    entry = quarantine.find(session, reference)
    rest = {name: getattr(entry, name) for name in _OF_AN_ENTRY}
    if gone := quarantine.dismissal(session, entry.id):
        rest |= {"dismissed_by": gone.actor, "dismissed_at": gone.created_at, "dismissed_for": gone.reason}
    return {f"quarantined {entry.id}": {**rest, "headers": entry.headers, "body": entry.body.decode(errors="replace")}}
