"""What tests of tasks do again and again: take one, look where it stands, turn its clock, and act as beat."""

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from federation.services import claims, escalations, inboxes, task_claims, task_ends, tasks
from federation.transaction import Transactions

HOUR = timedelta(hours=1)


def take(transactions: Transactions, who: str, slug: str = "t") -> claims.ClaimOutcome:
    with transactions.begin(who) as session:
        return task_claims.claim(session, slug, description="", ttl_s=3600)


def stands(transactions: Transactions, slug: str = "t") -> tuple[str, str | None]:
    with transactions.begin("ada") as session:
        task = tasks.find(session, slug)
        return task.status, task.assigned_to


def inbox(transactions: Transactions, who: str) -> list[str]:
    with transactions.begin(who) as session:
        return [message.content for message in inboxes.inbox(session).messages]


def by_hand(transactions: Transactions, statement: str, **values: Any) -> None:
    with transactions.begin("test:hand") as session:
        session.execute(text(statement), values)


def end_what_is_over(transactions: Transactions) -> list[bool]:
    with transactions.begin("service:beat") as session:
        return [task_ends.expire(session, each) for each in task_ends.overdue(session)]


def escalate(transactions: Transactions, *, after: timedelta = HOUR) -> list[bool]:
    with transactions.begin("service:beat") as session:
        return [escalations.escalate(session, each, after=after) for each in escalations.due(session, after=after)]


def wait_in_vain(transactions: Transactions, slug: str = "t") -> list[bool]:
    by_hand(transactions, "UPDATE agent_tasks SET waiting_since = waiting_since - interval '2 hours' WHERE slug = :slug", slug=slug)
    return escalate(transactions)
