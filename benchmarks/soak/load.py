"""What the processes of a soak share: the plan in their working directory, and how they count; measures nothing."""

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

QUEUE = "soak.plain"
# A byte a message each.
PUBLISHED, CONSUMED, RAN = Path("published"), Path("consumed"), Path("ran")
VERDICT = Path("verdict.json")
_PLAN = Path("plan.json")


@dataclass(frozen=True)
class Plan:
    """Every `task_every`-th message is a task for a Celery worker; bodies have `body_bytes` bytes."""

    url: str
    messages: int
    body_bytes: int
    task_every: int

    @property
    def tasks(self) -> int:
        """How many of the messages are tasks."""
        return len(range(0, self.messages, self.task_every))

    def is_task(self, number: int) -> bool:
        """Whether the message of that number is a task."""
        return number % self.task_every == 0


def write_plan(folder: Path, plan: Plan) -> None:
    """Leave the plan for the processes that start in that folder; it holds the broker's password."""
    path = folder / _PLAN
    path.touch(mode=0o600)
    path.write_text(json.dumps(asdict(plan)))
    for counted in (PUBLISHED, CONSUMED, RAN):
        (folder / counted).touch()


def read_plan() -> Plan:
    """Return the plan of the working directory."""
    return Plan(**json.loads(_PLAN.read_text()))


def count(what: Path) -> None:
    """Count one."""
    os.write(_opened(what), b".")


def counted(what: Path, folder: Path = Path()) -> int:
    """Return how many were counted."""
    return (folder / what).stat().st_size


@cache
def _opened(path: Path) -> int:
    # First asked for after the fork: each process of a pool has its own.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
