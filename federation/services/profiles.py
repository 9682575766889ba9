"""What an agent's record says of it: worked out from tasks, findings and votes that the caller sees, whenever it is asked for, and stored nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from federation.services import agents
from federation.store.context import context
from federation.store.models.agents import Capability

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Record:
    """How often something of a kind came out well or badly, and what that makes of a voice."""

    of: Annotated[
        str, Field(description="investigate, analyze, remediate, report: its tasks. hypothesis: its own. decision: its votes on tasks. overall: all.")
    ]
    well: Annotated[int, Field(description="Completed; confirmed by another; approved and then completed, or rejected and then failed.")]
    badly: int
    weight: Annotated[float, Field(description="Above 0 and below 2, 1 without a record: for `weights` of a vote or `expertise` of a session.")]


@dataclass(frozen=True, slots=True)
class Profile:
    """An agent, by what is known of it."""

    agent: str
    role: str
    capabilities: Annotated[Sequence[str], Field(description="What it says that it can do.")]
    record: Annotated[Sequence[Record], Field(description="How that went, as far as you see it; what has no outcome yet does not count.")]
    voted: Annotated[int, Field(description="In so many votes that were decided.")]
    agreed: Annotated[int, Field(description="So often for what won, which is no sign of being right.")]


# Each part sees what the policies of its tables show to who asks.
_RECORD = text(
    """
    SELECT of, count(*) FILTER (WHERE well) AS well, count(*) FILTER (WHERE NOT well) AS badly FROM (
        SELECT task_type AS of, status = 'completed' AS well FROM agent_tasks WHERE assigned_to = :agent AND status IN ('completed', 'failed')
        UNION ALL
        SELECT 'hypothesis', said.validates FROM agent_findings own JOIN agent_findings said ON said.hypothesis_id = own.id
        WHERE own.agent_id = :agent AND said.agent_id <> :agent AND said.validates IS NOT NULL
        UNION ALL
        SELECT 'decision', (b.choice = 'approve') = (t.status = 'completed')
        FROM ballots b JOIN consensus c ON (c.id, c.revision) = (b.consensus_id, b.revision) JOIN agent_tasks t ON t.id = c.task_id
        WHERE b.actor = :agent AND b.choice IN ('approve', 'reject') AND c.state = 'decided' AND t.status IN ('completed', 'failed')
    ) outcomes GROUP BY of ORDER BY of
    """
)
_VOTED = text(
    """
    SELECT count(*) AS voted, count(*) FILTER (WHERE b.response ? (c.outcome ->> 'winner')) AS agreed
    FROM ballots b JOIN consensus c ON (c.id, c.revision) = (b.consensus_id, b.revision) WHERE b.actor = :agent AND c.state = 'decided'
    """
)


def of(session: Session, names: Sequence[str] = ()) -> list[Profile]:
    """Return the profiles of these agents, or of the caller, as far as the caller sees their work. Raises NotFound with the nearest names."""
    return [_profile(session, name) for name in names or (context(session).actor,)]


def weight(well: int, badly: int) -> float:
    """Return what a voice with this record counts: twice the share that came out well, by Laplace's rule of succession, which is 1 without any."""
    return max(round(2 * (well + 1) / (well + badly + 2), 3), 0.001)


def _profile(session: Session, name: str) -> Profile:
    agent = agents.get(session, name)
    records = [Record(row.of, row.well, row.badly, weight(row.well, row.badly)) for row in session.execute(_RECORD, {"agent": name})]
    well, badly = sum(each.well for each in records), sum(each.badly for each in records)
    able = session.scalars(select(Capability.capability).where(Capability.agent == name).order_by(Capability.capability))
    votes = session.execute(_VOTED, {"agent": name}).one()
    return Profile(agent.name, agent.role, list(able), [*records, Record(OVERALL, well, badly, weight(well, badly))], votes.voted, votes.agreed)
