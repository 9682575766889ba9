"""`federation task delegate`, `assign`, `take`, `give-back`, `complete`: work handed out and done as the agent or person whose token is set."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from federation.cli import inputs
from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, inert, print_json
from federation.errors import Refused
from federation.services import assignments, delegation, executions, outcomes, task_claims, task_terms
from federation.services.claims import told
from federation.settings import settings
from federation.store.models.tasks import AgentTask, Executor, TaskType

Mine = Annotated[str, typer.Argument(metavar="ID", help="Id or name of the task.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Where = Annotated[str | None, typer.Option("--conversation", metavar="ID", help="Its conversation; left out: the commons.")]
InConversation = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="Its conversation; needed only where the name stands in several.")
]
Name = Annotated[str | None, typer.Option("--id", metavar="NAME", help="A name for it; under the same name it is made once.")]
Whole = Annotated[str | None, typer.Option("--parent", metavar="ID", help="The task that it is a part of.")]
_SHOWN = ("id", "slug", "conversation_id", "status", "assigned_to", "executor", "parent_id", "expires_at")


def delegate(
    description: Annotated[str, typer.Argument(metavar="WHAT", help="What is to be done.")],
    *,
    kind: Annotated[TaskType, typer.Option("--type", help="What kind of work it is.")] = TaskType.INVESTIGATE,
    executor: Annotated[
        Executor | None, typer.Option(help="Who does it; left out: a node if only a role, or anything of a node is asked for, else an agent.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="The one agent for whom it is.")] = None,
    role: Annotated[str | None, typer.Option(help="Only a node, or with --executor agent an agent, of this role.")] = None,
    capability: Annotated[str | None, typer.Option(help="For the first who says that he can do this.")] = None,
    node: Annotated[str | None, typer.Option(help="Only this node.")] = None,
    engine: Annotated[str | None, typer.Option(help="Only a node with this engine.")] = None,
    model: Annotated[str | None, typer.Option(help="Only a node with this model.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only a node with this tag; may be repeated.")] = None,
    gpus: Annotated[int, typer.Option(min=0, max=10_000, help="Only a node with so many GPUs.")] = 0,
    min_vram_gib: Annotated[
        float, typer.Option("--min-vram", metavar="GIB", min=0, max=100_000, help="Only a node with so much memory on one GPU.")
    ] = 0,
    start_at: Annotated[
        str | None, typer.Option("--start-at", metavar="TIME", help="A node begins no earlier, such as 18:00 (today) or 2030-01-31T18:00.")
    ] = None,
    parameter: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A further input, each once.")] = None,
    look_up: Annotated[bool, typer.Option("--look-up", help="A node's model reads what is found in the files.")] = False,
    priority: Annotated[int, typer.Option(min=1, max=10, help="1 can wait, 10 comes first.")] = 5,
    timeout: Annotated[float | None, typer.Option(help="Seconds until it expires.")] = None,
    approval: Annotated[bool, typer.Option("--approval", help="It waits until somebody approves it.")] = False,
    parent: Whole = None,
    name: Name = None,
    conversation: Where = None,
    as_json: AsJson = False,
) -> None:
    """Hand out work.

    As the agent whose token is in FEDERATION_TOKEN. What no node has now waits for one that has it.
    """
    asked = {"role": role, "node": node, "engine": engine, "model": model, "min_vram_gib": min_vram_gib, "gpus": gpus, "tags": tuple(tag or ())}
    needs = {name: value for name, value in asked.items() if value}
    terms: dict[str, Any] = {
        "task_type": kind,
        "executor": task_terms.executor_for(executor, agent=agent, capability=capability, needs=needs),
        "agent": agent,
        "requirements": needs,
        "capability": capability,
        "parameters": inputs.parameters(parameter or []),
        "look_up": look_up,
        "start_at": None if start_at is None else inputs.moment("--start-at", start_at),
        "priority": priority,
        "timeout_s": timeout,
        "requires_approval": approval,
        "parent": parent,
        "slug": name,
        "conversation_id": conversation,
    }
    task = transact_as_agent(lambda session: delegation.hand_out(session, description, **terms))
    # Placement happens with the sending, after the commit: so this is another look.
    _show(task, transact_as_agent(lambda session: _standing(session, task)), as_json=as_json)


def _standing(session: Session, task: AgentTask) -> dict[str, Any]:
    """Return where the execution of a node's task stands; nothing of a task of agents."""
    execution_id = outcomes.of_task(session, task.id)
    if execution_id is None:
        return {}
    view = executions.state(session, execution_id)
    return {"execution_id": execution_id, "execution": view.state, "node": view.node, "waiting_for": view.waiting_for}


def assign(
    conversation: Annotated[str, typer.Argument(metavar="CONVERSATION", help="Where.")],
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Who.")],
    role: Annotated[str, typer.Argument(metavar="ROLE", help="As what.")],
    subtask: Annotated[str, typer.Argument(metavar="WHAT", help="What is to be done, or a task there that nobody works on.")],
    *,
    parent: Whole = None,
    name: Name = None,
    as_json: AsJson = False,
) -> None:
    """Designate an agent for a role, with a task.

    As the agent whose token is in FEDERATION_TOKEN, and whose role may designate.
    """

    def work(session: Session) -> AgentTask:
        return assignments.assign(session, agent, role, subtask, conversation_id=conversation, slug=name, parent=parent)

    _show(transact_as_agent(work), as_json=as_json)


def take(
    reference: Mine,
    *,
    description: Annotated[str, typer.Option("--for", help="What you are about to do, for those who look on.")] = "",
    ttl_s: Annotated[float | None, typer.Option("--ttl", help="Seconds that it holds; unset: FEDERATION_CLAIM_TTL_S.")] = None,
    conversation: InConversation = None,
    as_json: AsJson = False,
) -> None:
    """Claim a task, or extend your claim.

    Exit code 1: somebody else holds it.
    """
    lasting_s = settings().claim_ttl_s if ttl_s is None else ttl_s
    outcome = transact_as_agent(
        lambda session: task_claims.claim(session, reference, description=description, ttl_s=lasting_s, conversation_id=conversation)
    )
    if as_json:
        print_json(json.dumps(told(outcome), indent=2))
    elif outcome.claimed:
        console.print(inert(f"{outcome.holder} has {reference} until {outcome.expires_at:%Y-%m-%d %H:%M:%S}, with token {outcome.fencing_token}."))
    else:
        raise Refused("Claim before you code:", f"{outcome.holder} has {reference} until {outcome.expires_at}.")
    raise typer.Exit(0 if outcome.claimed else 1)


def give_back(reference: Mine, conversation: InConversation = None, as_json: AsJson = False) -> None:
    """Give back a task that you hold.

    Others may claim it then.
    """
    released = transact_as_agent(lambda session: task_claims.release(session, reference, conversation_id=conversation))
    if as_json:
        print_json(json.dumps({"released": released}))
    else:
        console.print(inert(f"Gave back {reference}." if released else f"You do not hold {reference}; nothing was changed."))
    raise typer.Exit(0 if released else 1)


def complete(
    reference: Mine,
    *,
    token: Annotated[int, typer.Option("--token", min=1, help="The fencing token that `take` gave you.")],
    result: Annotated[str, typer.Option(metavar="JSON", help="What came of it, as a JSON object, @FILE, or - for standard input.")] = "{}",
    failed: Annotated[bool, typer.Option("--failed", help="It cannot be done.")] = False,
    conversation: InConversation = None,
    as_json: AsJson = False,
) -> None:
    """Record the result of a task that you hold.

    It ends with that.
    """
    came = inputs.json_object("--result", result, such_as='{"leaks": 0}')

    def work(session: Session) -> AgentTask:
        return task_claims.complete(session, reference, fencing_token=token, result=came, success=not failed, conversation_id=conversation)

    _show(transact_as_agent(work), as_json=as_json)


def _show(task: AgentTask, stands: Mapping[str, Any] | None = None, *, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps({name: getattr(task, name) for name in _SHOWN} | dict(stands or {}), indent=2, default=str))
        return
    whose = f", {task.assigned_to}'s" if task.assigned_to else ""
    console.print(inert(f"Task {task.slug or task.id} is {task.status}{whose}."))
    if stands:
        where = f" at {stands['node']}" if stands["node"] else f", and waits for {stands['waiting_for']}" if stands["waiting_for"] else ""
        console.print(inert(f"Its execution {stands['execution_id']} is {stands['execution']}{where}."))
