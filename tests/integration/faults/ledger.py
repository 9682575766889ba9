"""Proves from the database alone what became of the work: what was lost, what had its effect twice, and whether the log agrees with the tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from sqlalchemy.orm import Session

from federation.security.signing import PublicKey
from federation.services import replay, verification

# Each finds what must not be; the name says what it would be.
LOST = {
    "executions that did not succeed": """
        SELECT e.id::text, e.node, r.state, r.result FROM executions e LEFT JOIN celery_results r ON r.task_id = e.id::text
        WHERE coalesce(r.state, e.outcome) IS DISTINCT FROM 'SUCCESS' AND NOT (
            -- Asked for once more after a lost answer, and decided when the task had been completed: refused, as it should be.
            e.task_name = 'federation.tasks.claims.claim_task' AND r.state = 'FAILURE' AND r.result::jsonb->>'exc_type' = 'Conflict'
            AND EXISTS (SELECT FROM agent_tasks t WHERE t.id::text = e.kwargs->>'task_id' AND t.status = 'completed')
        )
    """,
    "executions that are still to be sent": "SELECT execution_id FROM outbox",
    "steps without their message": """
        SELECT e.id FROM executions e WHERE task_name = 'tests.step'
            AND NOT EXISTS (SELECT FROM messages m WHERE m.data->'number' = e.kwargs->'number')
    """,
    "tasks that are not completed": "SELECT id FROM agent_tasks WHERE status <> 'completed'",
    "quarantined messages": "SELECT id, task_name, reason FROM quarantine",
}
DOUBLED = {
    "steps that spoke twice": "SELECT data->'number' FROM messages WHERE conversation_id = 'steps' GROUP BY 1 HAVING count(*) > 1",
    "tasks completed twice": "SELECT stream FROM events WHERE type = 'task.completed' GROUP BY 1 HAVING count(*) > 1",
    "effects told twice": "SELECT stream, payload->>'key' FROM events WHERE type = 'execution.effect_recorded' GROUP BY 1, 2 HAVING count(*) > 1",
    # The holder who asks again keeps the token.
    "fencing tokens given to two": """
        SELECT payload->>'resource', payload->>'fencing_token' FROM events WHERE type = 'claim.acquired'
        GROUP BY 1, 2 HAVING count(DISTINCT actor) > 1
    """,
}
BROKEN = {
    "streams with gaps": "SELECT stream FROM events GROUP BY stream HAVING max(position) <> count(*)",
    "events without an actor": "SELECT id FROM events WHERE actor IS NULL OR actor = ''",
    "numbers that are missing": "SELECT max(number) - count(*) FROM event_order HAVING max(number) <> count(*)",
}


@dataclass(frozen=True, slots=True)
class Ledger:
    """How much was found of what must not be, and what it was, in words."""

    lost: int
    doubled: int
    flaws: Sequence[str]


def prove(owner_url: str) -> Ledger:
    """Look at all of the work that a database knows of."""
    flaws: list[str] = []

    def count(queries: dict[str, str]) -> int:
        found = 0
        for name, query in queries.items():
            rows = connection.execute(query).fetchall()
            found += len(rows)
            if rows:
                flaws.append(f"{len(rows)} {name}: {rows[:3]}")
        return found

    with psycopg.connect(owner_url) as connection:
        lost, doubled = count(LOST), count(DOUBLED)
        count(BROKEN)
    return Ledger(lost, doubled, flaws)


def log_flaws(session: Session, key: PublicKey) -> list[str]:
    """Return where the events and the tables, or the events and their seals, disagree."""
    flaws = [str(difference) for difference in replay.replay(session).differences]
    report = verification.verify(session, key, filed=None)
    flaws += [finding.text for finding in report.findings]
    if not report.sealed:
        flaws.append("nothing was sealed")
    return flaws[:20]
