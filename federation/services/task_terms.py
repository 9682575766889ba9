"""What a task asks for beside its description, in one form: shown to who decides on it or does it, told in the event of the decision, and signed."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.orm import Session

from federation.charter import PERSON
from federation.errors import InvalidInput
from federation.services import agents, statements
from federation.services.names import valid_slug
from federation.store.models.tasks import AgentTask, Executor, TaskType

TOLD = (
    "What it asks for beside its description, without what is empty: task_type, executor, priority, parameters (further inputs, which a node's model "
    "reads too), requirements (of whom or what does it), capability (what who does it can do), reserved_for (the one agent for whom it is), look_up "
    "(a node's model reads what is found), start_at, timeout_s, parent_id (the task that it is a part of)."
)
Terms = Annotated[dict[str, Any], Field(description=TOLD)]
_COLUMNS = ("task_type", "executor", "priority", "parameters", "requirements", "capability", "reserved_for", "look_up", "timeout_s")
SHORTEST_S, LONGEST_S = 1, 30 * 86_400
# Those who claim what they do; a node is sent it.
CLAIMING = frozenset({Executor.AGENT, Executor.PERSON})


def executor_for(executor: Executor | None, *, agent: str | None, capability: str | None, needs: Mapping[str, Any]) -> Executor:
    """Return who does a task, where that is not said a node if something is needed of one. Raises InvalidInput where it contradicts the rest."""
    found = executor or (Executor.NODE if needs and agent is None and capability is None else Executor.AGENT)
    if found is Executor.NODE and agent is not None:
        raise InvalidInput("agent", agent, "no agent where executor is 'node'; leave one of them out")
    others = sorted(needs.keys() - {"role"})
    if found is not Executor.NODE and others:
        raise InvalidInput(others[0], needs[others[0]], "a task of executor 'node'; agents are chosen by name, role or capability only")
    return found


def require_fitting(
    *,
    task_type: str,
    executor: str,
    priority: int,
    agent: str | None,
    capability: str | None,
    start_at: datetime | None,
    timeout_s: float | None,
) -> None:
    """Pass if a new task's terms fit each other. Raises InvalidInput."""
    if task_type not in set(TaskType):
        raise InvalidInput("task_type", task_type, "one of " + ", ".join(TaskType))
    if executor not in set(Executor):
        raise InvalidInput("executor", executor, "one of " + ", ".join(Executor))
    if start_at is not None and executor != Executor.NODE:
        raise InvalidInput("start_at", start_at.isoformat(), "a task of executor 'node'; others begin when they claim")
    if not 1 <= priority <= 10:
        raise InvalidInput("priority", priority, "1 (can wait) to 10 (first)")
    if timeout_s is not None and not SHORTEST_S <= timeout_s <= LONGEST_S:
        raise InvalidInput("timeout_s", timeout_s, f"{SHORTEST_S} to {LONGEST_S} seconds")
    if capability is not None:
        valid_slug("capability", capability)
        if executor == Executor.NODE:
            raise InvalidInput("capability", capability, "a task of agents; a node is chosen by engine, model and tags")
        if agent is not None:
            raise InvalidInput("capability", capability, "no capability where agent is given; leave one of them out")


def require_able(session: Session, executor: str, *, agent: str | None, role: str | None) -> None:
    """Pass if the agent for whom a task is, if one is named, could take it. Raises NotFound, InvalidInput."""
    if executor == Executor.PERSON and role not in {None, PERSON}:
        raise InvalidInput("role", role, f"no role, or {PERSON}, where executor is 'person'")
    if agent is None:
        return
    own = agents.role_of(session, agent)
    if executor == Executor.PERSON and own != PERSON:
        raise InvalidInput("agent", agent, f"a person where executor is 'person': an agent of the role {PERSON}, and {agent} is of the role {own}")
    if role not in {None, own}:
        raise InvalidInput("role", role, f"{own}, the role of {agent}, or no role: an agent of another could not claim it")


def role_for(task: AgentTask) -> str | None:
    """Return the role of those who may take a task; None: any, or whom it was handed to whatever his role."""
    if task.executor == Executor.PERSON:
        return PERSON
    return None if task.handed_to is not None else task.requirements.get("role")


def parameters(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a new task's parameters. Raises InvalidInput for such as nobody could sign."""
    found = dict(given or {})
    statements.hashed({"parameters": found})
    # PostgreSQL writes 1e23 without an exponent: what is read back, and signed by who decides, is a whole number.
    statements.hashed({"parameters": json.loads(json.dumps(found), parse_float=_read_back)})
    return found


def _read_back(digits: str) -> int | float:
    number = float(digits)
    return int(number) if number.is_integer() else number


def terms(task: AgentTask) -> dict[str, Any]:
    """Return what a task asks for as JSON has it, without what is empty; nothing of it ever changes."""
    found: dict[str, Any] = {name: getattr(task, name) for name in _COLUMNS}
    # A connection's time zone is no part of it.
    found["start_at"] = moment(task.start_at)
    found["parent_id"] = task.parent_id and str(task.parent_id)
    return {name: value for name, value in found.items() if value}


def moment(at: datetime | None) -> str | None:
    """Return a moment as terms have it."""
    return None if at is None else at.astimezone(UTC).isoformat()


def decided_on(task: AgentTask) -> dict[str, Any]:
    """Return what a decision on a task is about, which whoever signs it can read and hash."""
    return {"description": task.description, "terms": terms(task)}


def asked_for(task: AgentTask, designated: str | None) -> dict[str, Any]:
    """Return what who hands out a task states, without what is empty; `designated` is the role for which its agent is designated with it."""
    names = ("conversation_id", "slug", "requires_approval")
    found = {name: getattr(task, name) for name in names} | decided_on(task)
    found |= {"session_id": task.session_id and str(task.session_id), "designated": designated}
    return {name: value for name, value in found.items() if value}
