"""Who may put a task that awaits approval to the vote: looked at when it is put there, and again before such a vote counts.

The database knows no charter, so there a vote on a task may be written by any member of its conversation.
"""

from sqlalchemy.orm import Session

from federation.charter import Right
from federation.consensus.ballots import WHOLE, Base
from federation.consensus.mechanisms import Name
from federation.services import charter
from federation.store.models.consensus import Consensus
from federation.store.models.sessions import AgentSession
from federation.store.models.tasks import AgentTask


def is_left_to_voters(session: Session, found: AgentSession, *, proposer: str) -> bool:
    """Say whether who began a session, and might decide on this action of the proposer's himself, left that to voters whom he named."""
    # Voters whose role may vote no more decide nothing, and neither do the others without them.
    if found.voters is None or not all(charter.may(session, name, Right.VOTE) for name in (*found.voters, proposer)):
        return False
    # Else he would have chosen who lets his own through.
    return charter.may(session, found.created_by, Right.APPROVE_OWN if found.created_by == proposer else Right.APPROVE)


def may_decide(session: Session, name: str, task: AgentTask) -> bool:
    """Say whether the charter lets somebody decide on a task, whatever phase its conversation is in."""
    own = name == task.created_by
    return charter.may(session, name, Right.APPROVE) and (not own or charter.may(session, name, Right.APPROVE_OWN))


def counts(session: Session, vote: Consensus, task: AgentTask) -> bool:
    """Say whether a vote on a task was put by one who may decide on it, or is that of a session's voters on an action: it decides, or nothing."""
    if may_decide(session, vote.created_by, task):
        return True
    found = session.get(AgentSession, task.session_id) if task.session_id is not None and vote.created_by == task.created_by else None
    return found is not None and is_left_to_voters(session, found, proposer=task.created_by) and _as_usual(vote, found.voters or [])


def _as_usual(vote: Consensus, voters: list[str]) -> bool:
    """Say whether a vote is by more than half of these voters, one as good as the other."""
    electorate = [{"agent": name, "weight": WHOLE} for name in sorted(set(voters))]
    rules = {"mechanism": Name.MAJORITY, "base": Base.ELECTORATE, "quorum": len(electorate) // 2 + 1, "electorate": electorate}
    return all(vote.proposal.get(name) == value for name, value in rules.items())
