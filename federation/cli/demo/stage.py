"""What the steps of the demo share: clients, the auditor's eyes, and checks that end the demo when they fail."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from fastmcp import Client
from psycopg.rows import namedtuple_row
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from federation.cli.console import console, inert
from federation.errors import FederationError, SettingsError
from federation.settings import Settings

# The demo's own agents, so that it takes no name, token or inbox of anybody's.
ADA, BOB, EVE = "demo-ada", "demo-bob", "demo-eve"
CONVERSATION = "project-123"


class DemoFailed(FederationError):
    """A step did not have the effect that it must have."""


@dataclass
class Stage:
    """The set of one demo."""

    settings: Settings
    started_at: datetime
    stack: AsyncExitStack
    summarised_to: int = 0
    clients: dict[str, Client[Any]] = field(default_factory=dict)

    @property
    def run(self) -> str:
        """What tells this demo's task names from those of former ones."""
        return f"{self.started_at:%m%d-%H%M%S}"

    @property
    def workspace(self) -> Path:
        """The folder of what the demo itself makes."""
        return self.settings.data_dir / "demo"

    async def call(self, agent: str, tool: str, **arguments: Any) -> Any:
        """Return what a tool answers to an agent, as JSON values."""
        answer = await self.clients[agent].call_tool(tool, arguments)
        return answer.structured_content

    def sql(self, query: str, *values: Any) -> Sequence[Any]:
        """Return rows as the role `auditor` sees them, which writes nothing."""
        url = self.settings.database_auditor_url
        if url is None:
            raise SettingsError("FEDERATION_DATABASE_AUDITOR_URL is not set: the demo checks its effects as the auditor")
        with psycopg.connect(url.get_secret_value(), row_factory=namedtuple_row, autocommit=True) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        """Return the first column of the only row. Raises DemoFailed if there is none."""
        rows = self.sql(query, *values)
        check(len(rows) == 1, f"one row in the database, not {len(rows)}: {query}", quiet=True)
        return rows[0][0]

    async def until(self, what: str, look: Callable[[], Any], *, within_s: float = 60.0, moves: Callable[[], Any] = lambda: None) -> Any:
        """Look into the database until there is something. Raises DemoFailed when `moves` has told nothing new for `within_s` seconds."""
        clock = asyncio.get_running_loop().time
        told, deadline = moves(), clock() + within_s
        while not (found := await asyncio.to_thread(look)):
            self._refuse_failures()
            if (tells := moves()) != told:
                told, deadline = tells, clock() + within_s
            if clock() > deadline:
                unfinished = "; ".join(self._unfinished()) or "every execution has ended"
                raise DemoFailed(f"{what}: not seen within {within_s:.0f} s ({unfinished}); the logs are in {self.settings.data_dir / 'logs'}")
            await asyncio.sleep(0.2)
        return found

    def _unfinished(self) -> list[str]:
        """Return a few of the executions since the demo began that have no result yet, with how far each has come."""
        rows = self.sql(
            """
            select e.task_name, e.id, e.node, e.sent_at, o.waiting_for,
                (select count(*) from execution_deliveries d where d.execution_id = e.id) as deliveries
            from executions e left join outbox o on o.execution_id = e.id
            where e.created_at > %s and e.outcome is null
                and not exists (select from celery_results r where r.task_id = e.id::text and r.state = 'SUCCESS')
            order by e.created_at limit 5
            """,
            self.started_at,
        )
        return [
            f"{row.task_name} {row.id} was sent to {row.node} at {row.sent_at:%H:%M:%S} and delivered {row.deliveries} times"
            if row.sent_at
            else f"{row.task_name} {row.id} was not sent, and waits for {row.waiting_for or 'ActiveMQ'}"
            for row in rows
        ]

    def _refuse_failures(self) -> None:
        failed = self.sql(
            """
            select e.task_name, r.result from executions e join celery_results r on r.task_id = e.id::text
            where r.state = 'FAILURE' and e.created_at > %s
                and e.trace_id in (select trace_id from executions where actor = any(%s))
            order by e.created_at limit 1
            """,
            self.started_at,
            [ADA, BOB, EVE],
        )
        if failed:
            raise DemoFailed(f"{failed[0].task_name} failed: {failed[0].result}")


def heading(number: int, title: str) -> None:
    """Begin a step of the transcript."""
    console.print(f"\n[bold cyan]{number:>2}  {title}[/]")


def say(text: str) -> None:
    """Write a line of the transcript, with rich's markup in it."""
    console.print(f"    {text}")


def said(agent: str, tool: str, answer: str) -> None:
    """Write what an agent called and what it was answered."""
    console.print(f"    [magenta]{agent}[/] [dim]{tool}[/] → {answer}")


def check(holds: bool, what: str, *, quiet: bool = False) -> None:
    """Write that an effect was seen. Raises DemoFailed if it was not."""
    if not holds:
        raise DemoFailed(f"not so: {what}")
    if not quiet:
        console.print(f"    [green]✓[/] {what}")


def bar() -> Progress:
    """Return a progress bar of so many parts of a whole."""
    return Progress(TextColumn("    {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)


def short(text: str, length: int = 96) -> str:
    """Return the beginning of a text, on one line and without markup."""
    line = " ".join(text.split())
    return inert(line if len(line) <= length else line[: length - 1] + "…")


def shown(values: Mapping[str, Any], *names: str) -> str:
    """Return the named values of an answer on one line and without markup."""
    return inert(", ".join(f"{name}={values[name]}" for name in names))
