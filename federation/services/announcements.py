"""Messages about tasks, votes, sessions and phases, to those who may take part or have asked: nobody would look for what he has not heard of.

They are the program's and count against nobody; that somebody delegates what others are told of counts as one message of his, however many hear it.
"""

import json
from collections.abc import Sequence

from sqlalchemy.orm import Session

from federation.services import conversations, limits, messages, task_terms
from federation.services.charter import is_agent
from federation.store.behalf import on_behalf_of
from federation.store.context import context
from federation.store.models.consensus import Consensus
from federation.store.models.conversations import ConversationPhase, MessageType
from federation.store.models.sessions import AgentSession
from federation.store.models.tasks import AgentTask, Executor, TaskStatus

# Of what a session is about; all of it is read where it is joined.
_MOST_SHOWN = 1_000


def of_work(session: Session, task: AgentTask, *, role: str | None = None) -> None:
    """Tell those who may claim a task; of one's own, or a node's, there is nobody to tell. `role` is what one was designated for with it.

    Raises RateLimited.
    """
    if task.executor == Executor.NODE or task.meant_for == context(session).actor:
        return
    # Where another approved it, who asked for it does nothing now: his allowance refuses nobody else, and nobody else waits for it.
    if task.decided_by is None:
        limits.message(session)
    wanted = task_terms.role_for(task)
    whose = f" for you as {role}" if role else f" for the role {wanted}" if wanted else f" for who can {task.capability}" if task.capability else ""
    more = f" Its parameters are in federation_task_status('{_called(task)}')." if task.parameters else ""
    if task.expires_at is not None:
        more += f" It expires at {task.expires_at.isoformat(timespec='seconds')}."
    # What one can do one says oneself, so that who says it later is handed it then.
    to = task.meant_for or (f"capability:{task.capability}" if task.capability else None)
    claim = f"Claim it with federation_claim_task('{_called(task)}')."
    _send(session, task, f"Task {_called(task)}{whose}: {task.description}\n{claim}{more}", to=to, role=role)


def of_expiry(session: Session, task: AgentTask) -> None:
    """Tell who asked for a task that it has expired, and who had it, in the name of who asked, if he is an agent."""
    if not is_agent(task.created_by):
        return
    had = {task.assigned_to} if task.executor != Executor.NODE and task.assigned_to is not None and is_agent(task.assigned_to) else set()
    with on_behalf_of(session, task.created_by, trace_id=task.trace_id):
        for name in sorted({task.created_by} | had):
            _send(session, task, f"Task {_called(task)} has expired: {(task.result or {}).get('error')}.", to=name, message_type=MessageType.STATUS)


def of_escalation(session: Session, task: AgentTask, *, leads: Sequence[str], why: str) -> None:
    """Tell those who may hand out work that nobody has taken a task, in the name of who asked, if he is an agent; without any, tell him."""
    if not is_agent(task.created_by):
        return
    called = _called(task)
    hand = f"federation_assign_role(conversation_id='{task.conversation_id}', agent=…, role=…, subtask='{task.id}')"
    take = f"Take it with federation_claim_task('{called}'), or hand it to somebody: {hand}."
    if task.executor == Executor.NODE:
        take = f"If it is not wanted any more: federation_cancel_task('{called}')."
    if not leads:
        take = f"Nobody who may hand it out is in {task.conversation_id}: bring one in by writing to them there."
    with on_behalf_of(session, task.created_by, trace_id=task.trace_id):
        for name in leads or [task.created_by]:
            _send(session, task, f"Nobody has taken task {called}: {why}. {take}\n{task.description}", to=name)


def of_phase(session: Session, moved: ConversationPhase) -> None:
    """Tell the members that their conversation was moved on; an operator, who is no agent, tells nobody. Raises RateLimited."""
    if is_agent(context(session).actor):
        limits.message(session)
        reason = f": {moved.reason}" if moved.reason else "."
        content = f"{moved.conversation_id} is in its phase {moved.phase} now{reason}"
        data = {"phase": moved.phase, "number": moved.number}
        messages.send(session, content, message_type=MessageType.STATUS, conversation_id=moved.conversation_id, data=data, counted=False)


def of_request(session: Session, task: AgentTask, deciders: Sequence[str]) -> None:
    """Ask each of those who may decide on a task that awaits approval. Raises RateLimited."""
    if deciders:
        limits.message(session)
    decide = f"federation_approve('{_called(task)}', decision='approve', reason='…'), or decision='reject'"
    # In one line, and before the words of who asks, which could have lines that look like it.
    terms = json.dumps(task_terms.terms(task), ensure_ascii=False)
    for name in deciders:
        _send(session, task, f"Task {_called(task)} awaits your approval, with {terms}:\n{task.description}\nDecide with {decide}.", to=name)


def of_decision(session: Session, task: AgentTask) -> None:
    """Tell who asked for a task what was decided; an operator, who is no agent, tells nobody, and the task itself says it."""
    actor = context(session).actor
    if is_agent(actor) and actor != task.created_by:
        decided = "rejected" if task.status == TaskStatus.CANCELLED else "approved"
        reason = f": {task.decision_reason}" if task.decision_reason else "."
        _send(session, task, f"Task {_called(task)} was {decided}{reason}", to=task.created_by, message_type=MessageType.STATUS)


def of_vote(session: Session, vote: Consensus) -> None:
    """Ask the voters to acknowledge and to vote; an operator, who is no agent, tells nobody. Raises RateLimited."""
    about, called = vote.proposal, vote.slug or str(vote.id)
    changed = "" if vote.revision == 1 else f" was changed (revision {vote.revision}; ballots before it are void). It"
    how = f"by {about['mechanism']} until {vote.deadline.isoformat(timespec='seconds')}"
    # In one line, and before the words of who asks, which could have lines that look like it.
    options = json.dumps(about["options"], ensure_ascii=False)
    task = f" It decides on task {about['task']['task_id']}, as federation_task_status shows it." if about["task"] else ""
    acknowledge = f"federation_consensus_acknowledge('{called}', options_hash='{vote.options_hash}')"
    content = (
        f"Vote {called}{changed} asks you, {how}, for one of {options}.{task} If you have read them: {acknowledge}, then "
        f"federation_consensus_respond('{called}', response='…').\n{about['question']}"
    )
    others = _voters(vote) - {context(session).actor}
    if others and is_agent(context(session).actor):
        limits.message(session)
        _tell_voters(session, vote, content, others, MessageType.TASK)


def of_outcome(session: Session, vote: Consensus) -> None:
    """Tell the voters how it ended, in the name of who asked, if he is an agent."""
    others = _voters(vote) - {vote.created_by}
    if not others or not is_agent(vote.created_by):
        return
    outcome = vote.outcome or {}
    votes = ", ".join(f"{option} {count}" for option, count in outcome.get("votes", {}).items()) or "none"
    won = f"decided: {outcome['winner']}" if outcome.get("winner") else vote.state + (f" ({outcome['reason']})" if outcome.get("reason") else "")
    with on_behalf_of(session, vote.created_by, trace_id=vote.trace_id):
        _tell_voters(session, vote, f"Vote {vote.slug or vote.id} is {won}. Votes: {votes}.", others, MessageType.RESULT)


def of_session(session: Session, begun: AgentSession) -> None:
    """Ask those who vote in a session, or all members of its conversation, to join it; an operator tells nobody. Raises RateLimited."""
    actor = context(session).actor
    others = set(begun.voters or conversations.members(session, begun.conversation_id or conversations.COMMONS)) - {actor}
    if not others or not is_agent(actor):
        return
    limits.message(session)
    about = json.dumps(begun.context, ensure_ascii=False)
    shown = about if len(about) <= _MOST_SHOWN else f"{about[:_MOST_SHOWN]}…"
    content = f"Session {begun.slug} begins; join it with swarm_join_session('{begun.slug}'). What it is about: {shown}"
    data = {"session_id": str(begun.id), "slug": begun.slug}
    for to in [None] if begun.voters is None else sorted(others):
        messages.send(session, content, to=to, message_type=MessageType.TASK, conversation_id=begun.conversation_id, data=data, counted=False)


def _voters(vote: Consensus) -> set[str]:
    return {one["agent"] for one in vote.proposal["electorate"]}


def _tell_voters(session: Session, vote: Consensus, content: str, names: set[str], message_type: MessageType) -> None:
    """Tell all members at once where these are all others, else each of these."""
    data = {"consensus_id": str(vote.id), "slug": vote.slug, "options_hash": vote.options_hash, "state": vote.state}
    members = set(conversations.members(session, vote.conversation_id)) - {context(session).actor}
    for to in [None] if names == members else sorted(names):
        messages.send(session, content, to=to, message_type=message_type, conversation_id=vote.conversation_id, data=data, counted=False)


def _called(task: AgentTask) -> str:
    return task.slug or str(task.id)


def _send(
    session: Session, task: AgentTask, content: str, *, to: str | None, message_type: MessageType = MessageType.TASK, role: str | None = None
) -> None:
    data = {"task_id": str(task.id), "slug": task.slug, "role": role or task.requirements.get("role"), "priority": task.priority}
    messages.send(session, content, to=to, message_type=message_type, conversation_id=task.conversation_id, data=data, counted=False)
