"""Who votes, with which weight, by which rules: works out of what a caller asks for the proposal that everybody acknowledges."""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.charter import Right
from federation.charter import charter as rules
from federation.consensus.ballots import WHOLE, Base
from federation.consensus.mechanisms import Name
from federation.consensus.proposal import LARGEST_WEIGHT, TYPE
from federation.errors import Conflict, InvalidInput
from federation.services import agents, approvals, conversations, task_terms, tasks
from federation.services.approvals import Decision
from federation.store.context import context
from federation.store.models.agents import Agent
from federation.store.models.consensus import Consensus, ConsensusState
from federation.store.models.tasks import AgentTask, TaskStatus

DEFAULT_S, LONGEST_S = 300.0, 30 * 86_400.0
_YES_NO = ["yes", "no"]
_DECIDING = [str(each) for each in Decision]
# By these something is let through or not; the others choose one of several.
_OF_GATES = {Name.MAJORITY, Name.SUPERMAJORITY, Name.UNANIMOUS, Name.THRESHOLD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a caller asks for; None is worked out: yes or no, all members who may vote, weight 1, more than half of them, what is cast."""

    question: str
    options: Sequence[str] | None = None
    mechanism: str = Name.MAJORITY
    voters: Sequence[str] | None = None
    weights: Mapping[str, float] | None = None
    quorum: str | float | None = None
    threshold: float | None = None
    base: str | None = None
    timeout_s: float = DEFAULT_S
    shown: bool = False
    early: bool = True
    signed: bool = False
    task: str | None = None
    conversation_id: str | None = None
    # Who might have decided on it left that to these voters before; whoever sets this has looked.
    left_to_voters: bool = False

    @property
    def lasting(self) -> timedelta:
        """How long it takes ballots. Raises InvalidInput."""
        if not 1 <= self.timeout_s <= LONGEST_S:
            raise InvalidInput("timeout_s", self.timeout_s, f"1 to {LONGEST_S:.0f} seconds")
        return timedelta(seconds=self.timeout_s)


def gate(session: Session, asked: Asked) -> AgentTask | None:
    """Return the task that is put to the vote, by one who might decide on it himself; None if none is.

    Raises NotFound, Refused, InvalidInput for rules by which nothing is let through.
    """
    if asked.task is None:
        return None
    task = tasks.find(session, asked.task, conversation_id=asked.conversation_id)
    if not asked.left_to_voters:
        approvals.require_decider(session, task)
    if asked.mechanism not in _OF_GATES:
        raise InvalidInput("mechanism", asked.mechanism, "one of " + ", ".join(sorted(_OF_GATES)) + ", where the vote decides on a task")
    if asked.options is not None and list(asked.options) != _DECIDING:
        raise InvalidInput("options", list(asked.options), "none, where the vote decides on a task: it is approved or rejected")
    if asked.base == Base.CAST:
        raise InvalidInput("base", asked.base, "electorate, or nothing, where the vote decides on a task")
    return task


def require_undecided(session: Session, task: AgentTask) -> None:
    """Pass if a task awaits approval and is put to no vote; it stays locked until the commit. Raises Conflict."""
    named = task.slug or task.id
    if (vote := approvals.locked_vote(session, task)) is not None:
        raise Conflict(f"task {named} is put to the vote {vote.slug or vote.id} already; vote there with federation_consensus_respond")
    is_open = (Consensus.task_id == task.id) & (Consensus.state == ConsensusState.OPEN)
    if (idle := session.scalar(select(Consensus.id).where(is_open))) is not None:
        instead = "decide with federation_approve, or ask an operator to withdraw that (federation consensus withdraw)"
        raise Conflict(f"task {named} has the open vote {idle}, which decides nothing, because who asked for it may not: {instead}")
    session.refresh(task)
    if task.status != TaskStatus.AWAITING_APPROVAL:
        raise Conflict(f"task {named} is {task.status} and awaits no approval; look at it with federation_task_status")


def proposal(
    session: Session, asked: Asked, *, consensus_id: uuid.UUID, conversation_id: str, ends: datetime, task: AgentTask | None
) -> dict[str, Any]:
    """Return all that the vote is about, as JSON has it, not looked at as a whole. Raises NotFound for unknown voters, InvalidInput."""
    options = asked.options if asked.options is not None else _YES_NO if task is None else _DECIDING
    weights = _weights(session, asked, conversation_id)
    by_default = Base.CAST if task is None else Base.ELECTORATE
    return {
        "type": TYPE,
        "consensus_id": str(consensus_id),
        "revision": 1,
        "conversation_id": conversation_id,
        "asked_by": context(session).actor,
        "question": asked.question,
        "options": list(options),
        "mechanism": asked.mechanism,
        "threshold": asked.threshold if asked.mechanism == Name.THRESHOLD or asked.quorum != Name.THRESHOLD else None,
        "base": asked.base or by_default,
        "electorate": [{"agent": name, "weight": weight} for name, weight in weights.items()],
        "quorum": _quorum(asked, len(weights)),
        "timeout_s": asked.timeout_s,
        "deadline": ends.astimezone(UTC).isoformat(timespec="milliseconds"),
        "early": asked.early,
        "shown": asked.shown,
        "signed": asked.signed or rules().demands.vote == "signed",
        "task": None if task is None else {"task_id": str(task.id), **task_terms.decided_on(task)},
    }


def _weights(session: Session, asked: Asked, conversation_id: str) -> dict[str, int]:
    """Return the weight of each voter in thousandths, in order of name."""
    names = sorted(set(asked.voters)) if asked.voters is not None else _members(session, conversation_id)
    may = rules().who_may(Right.VOTE)
    for name in names:
        if agents.role_of(session, name) not in may:
            raise InvalidInput("voters", name, f"agents whose role may vote: {', '.join(may) or 'none may'}")
    if not names:
        raise InvalidInput("voters", names, f"at least one agent; in {conversation_id} is nobody whose role may vote ({', '.join(may)})")
    given = asked.weights or {}
    if strangers := sorted(given.keys() - set(names)):
        raise InvalidInput("weights", strangers[0], f"names of voters: {', '.join(names[:10])}")
    return {name: _thousandths(name, given.get(name, 1)) for name in names}


def _members(session: Session, conversation_id: str) -> list[str]:
    able = set(session.scalars(select(Agent.name).where(Agent.role.in_(rules().who_may(Right.VOTE)))))
    return [name for name in conversations.members(session, conversation_id) if name in able]


def _thousandths(name: str, weight: float) -> int:
    wants = f"for each voter a weight of 0.001 to {LARGEST_WEIGHT // WHOLE}, with at most three decimals"
    exact = Fraction(repr(weight)) * WHOLE if math.isfinite(weight) else Fraction(0)
    if exact.denominator != 1 or not 1 <= exact <= LARGEST_WEIGHT:
        raise InvalidInput("weights", {name: weight}, wants)
    return int(exact)


def _quorum(asked: Asked, voters: int) -> int:
    """Return how many must take part."""
    share: float | None
    match asked.quorum:
        case None | "majority":
            return voters // 2 + 1
        case "unanimous":
            share = 1
        case "threshold":
            share = asked.threshold
        case str():
            share = None
        case _:
            share = asked.quorum
    if share is None or not 0 <= share <= 1:
        raise InvalidInput("quorum", asked.quorum, "majority, unanimous, threshold (with `threshold`), or a share of the voters from 0 to 1")
    return math.ceil(Fraction(repr(share)) * voters)
