"""What a session knows, in one picture: context, findings, hypotheses with how sure all are of them, actions; also as people read it."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from federation.services import session_actions, sessions
from federation.services.confidence import Judgement, aggregated
from federation.services.session_actions import ActionView
from federation.store.models.sessions import AgentFinding, AgentSession, Category, SessionStatus

# Of a hypothesis; all of it is in its finding.
_MOST_SHOWN, _LONGEST = 50, 500


class Verdict(StrEnum):
    """Where a hypothesis stands."""

    PROPOSED = "proposed"
    CONFIRMED = "confirmed"
    REFUTED = "refuted"


@dataclass(frozen=True, slots=True)
class FindingView:
    """A finding."""

    position: Annotated[int, Field(description="Its place in the session; it grows.")]
    finding_id: uuid.UUID
    agent: str
    category: Category
    content: str
    confidence: float | None
    evidence: list[dict[str, Any]]
    hypothesis_id: Annotated[uuid.UUID | None, Field(description="The hypothesis that it is about.")]
    validates: Annotated[bool | None, Field(description="It confirms (true) or refutes it.")]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class HypothesisView:
    """A hypothesis, and what became of it."""

    hypothesis_id: uuid.UUID
    agent: str
    description: Annotated[str, Field(description="Or how it begins.")]
    confidence: Annotated[float, Field(description="How sure all are of it: each finding on it weighs expertise × (0.5 + 0.1 × its evidence).")]
    proposed_with: Annotated[float, Field(description="How sure its author was.")]
    findings: Annotated[int, Field(description="How many are about it, beside itself.")]
    state: Verdict
    validated_by: str | None


@dataclass(frozen=True, slots=True)
class Participant:
    """Who takes part."""

    agent: str
    focus: str


@dataclass(frozen=True, slots=True)
class Board:
    """A session as it stands; its findings come page by page."""

    session_id: uuid.UUID
    slug: str | None
    conversation_id: str | None
    initiator: str
    started: datetime
    status: SessionStatus
    context: dict[str, Any]
    participants: list[Participant]
    voters: Annotated[list[str] | None, Field(description="Who votes on proposed actions; null: each awaits approval.")]
    expertise: dict[str, float]
    findings: Annotated[int, Field(description="How many there are.")]
    hypotheses: Sequence[HypothesisView]
    actions: Sequence[ActionView]
    outcome: dict[str, Any] | None


def board(session: Session, found: AgentSession) -> Board:
    """Return what a session knows, for a caller whose right to see it was looked at before."""
    counted = select(func.count()).select_from(AgentFinding).where(AgentFinding.session_id == found.id)
    return Board(
        session_id=found.id,
        slug=found.slug,
        conversation_id=found.conversation_id,
        initiator=found.created_by,
        started=found.created_at,
        status=SessionStatus(found.status),
        context=found.context,
        participants=[Participant(name, focus) for name, focus in sessions.participants(session, found).items()],
        voters=found.voters,
        expertise={who: float(weight) for who, weight in found.expertise.items()},
        findings=session.scalar(counted) or 0,
        hypotheses=hypotheses(session, found),
        actions=session_actions.views(session, found),
        outcome=found.outcome,
    )


def hypotheses(session: Session, found: AgentSession) -> list[HypothesisView]:
    """Return the likeliest hypotheses of a session, the likeliest first; each with the findings about it weighed."""
    # Not what they say, which may be long.
    columns = (AgentFinding.id, AgentFinding.agent_id, AgentFinding.finding_type, AgentFinding.confidence, AgentFinding.validates)
    evidence, about = func.jsonb_array_length(AgentFinding.evidence).label("evidence"), AgentFinding.hypothesis_id
    of_session = (AgentFinding.session_id == found.id) & (about.is_not(None) | (AgentFinding.finding_type == Category.HYPOTHESIS))
    rows = session.execute(
        select(*columns, evidence, func.coalesce(about, AgentFinding.id).label("about")).where(of_session).order_by(AgentFinding.position)
    )
    judged: dict[uuid.UUID, list[Any]] = {}
    for row in rows:
        judged.setdefault(row.about, []).append(row)
    contents = select(AgentFinding.id, AgentFinding.content).where(AgentFinding.id.in_(judged))
    said = {row.id: row.content for row in session.execute(contents)}
    views = [_view(found, said[own.id]["text"], own, others) for own, *others in judged.values()]
    return sorted(views, key=lambda view: -view.confidence)[:_MOST_SHOWN]


def _view(found: AgentSession, description: str, own: Any, others: Sequence[Any]) -> HypothesisView:
    rows = [row for row in (own, *others) if row.confidence is not None]
    # Who is sure that it is refuted is as sure that it does not hold.
    sure = {row.id: 1 - row.confidence if row.validates is False else row.confidence for row in rows}
    judgements = [Judgement(row.agent_id, row.finding_type, sure[row.id], row.evidence) for row in rows]
    decided = next((row for row in others if row.validates is not None), None)
    return HypothesisView(
        hypothesis_id=own.id,
        agent=own.agent_id,
        description=description if len(description) <= _LONGEST else f"{description[:_LONGEST]}…",
        confidence=aggregated(judgements, lambda agent, category: sessions.expertise_of(found, agent, category)),
        proposed_with=own.confidence,
        findings=len(others),
        state=Verdict.PROPOSED if decided is None else Verdict.CONFIRMED if decided.validates else Verdict.REFUTED,
        validated_by=None if decided is None else decided.agent_id,
    )


def finding_view(finding: AgentFinding) -> FindingView:
    """Return a finding as its readers see it."""
    return FindingView(
        position=finding.position,
        finding_id=finding.id,
        agent=finding.agent_id,
        category=Category(finding.finding_type),
        content=finding.content["text"],
        confidence=finding.confidence,
        evidence=finding.evidence,
        hypothesis_id=finding.hypothesis_id,
        validates=finding.validates,
        created_at=finding.created_at,
    )


def lines(shown: Board, findings: Sequence[FindingView]) -> list[str]:
    """Return a session in lines, as the coordination patterns show a blackboard; what agents wrote keeps to its line."""
    told = ["context:", *(f"  {_word(name)}: {_quoted(value)}" for name, value in shown.context.items())]
    told += [f"  started: {shown.started.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", "", "findings:"]
    for finding in findings:
        if finding.category is not Category.HYPOTHESIS:
            kind = "finding" if finding.category is Category.OBSERVATION else finding.category
            sure = "" if finding.confidence is None else f" (confidence: {finding.confidence:g})"
            told += [f"  - agent: {finding.agent}", f"    {kind}: {_quoted(finding.content)}{sure}"]
    told += ["", "hypotheses:"]
    for each in shown.hypotheses:
        state = "" if each.state is Verdict.PROPOSED else f", {each.state} by {each.validated_by}"
        told.append(f"  - {_quoted(each.description)} (confidence: {each.confidence:.2g}{state})")
    told += ["", "actions_taken:"]
    for action in shown.actions:
        told += [f"  - agent: {action.agent}", f"    action: {_quoted(action.action)}", f"    status: {action.status}"]
    if shown.outcome is not None:
        told += ["", "outcome:", *(f"  {name}: {_quoted(value)}" for name, value in shown.outcome.items() if value is not None)]
    return told


def _quoted(value: Any) -> str:
    return json.dumps(_word(value) if isinstance(value, str) else value, ensure_ascii=False)


def _word(text: str) -> str:
    return " ".join(text.split())
