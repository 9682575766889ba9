"""What the tasks of the project wrote down, one line for the start and one for the end of each run."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 60.0


def wait_for(happened: Callable[[], object], what: str | Callable[[], str], *, within_s: float = PATIENCE_S) -> None:
    """Look again and again until it happened."""
    deadline = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def some(ids: Iterable[object]) -> str:
    """Return the number of ids and the first few, for a message."""
    listed = sorted(map(str, ids))
    return f"{len(listed)} ({', '.join(listed[:5])}{' …' if len(listed) > 5 else ''})"


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `worker` is the pid of the main process, `child` that of the one that runs the task, `at` as `time.monotonic` has it."""

    what: str
    task_id: str
    worker: int
    child: int
    redelivered: bool
    at: float


class Diary:
    """The file of one test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @property
    def lines(self) -> list[Line]:
        """All that is written so far, in order."""
        read = []
        for text in self.path.read_text().splitlines(keepends=True):
            if text.endswith("\n"):
                what, task_id, worker, child, redelivered, at = text.split()
                read.append(Line(what, task_id, int(worker), int(child), redelivered == "True", float(at)))
        return read

    def starts(self, task_id: str) -> list[Line]:
        """Return the runs of one task."""
        return [line for line in self.lines if line.what == "start" and line.task_id == task_id]

    def unended(self, worker: int) -> set[str]:
        """Return the tasks that a worker began and did not end."""
        mine = [line for line in self.lines if line.worker == worker]
        return {line.task_id for line in mine if line.what == "start"} - {line.task_id for line in mine if line.what == "end"}

    def taken_over_s(self, task_ids: Iterable[str], worker: int, since: float) -> float:
        """Return the seconds from a time until other workers had begun each of these tasks of a worker."""
        others = [line for line in self.lines if line.what == "start" and worker not in (line.worker, line.child) and line.at > since]
        return max(min(line.at for line in others if line.task_id == task_id) for task_id in task_ids) - since

    def ids(self, what: str) -> set[str]:
        """Return the tasks of which a start, or an end, is written."""
        return {line.task_id for line in self.lines if line.what == what}

    def wait_until_all_ended(self, sent: Iterable[str], *, within_s: float = PATIENCE_S, else_tell: Callable[[], object] = lambda: "") -> None:
        """Wait until each of these tasks has ended at least once; the error names those that were lost, and what `else_tell` adds."""
        wanted = set(sent)

        def missing() -> str:
            ended, started = self.ids("end"), self.ids("start")
            return f"of {len(wanted)} tasks these never ended: {some(wanted - ended)}; never started: {some(wanted - started)}\n{else_tell()}"

        wait_for(lambda: wanted <= self.ids("end"), missing, within_s=within_s)

    def check_reruns_are_marked(self, published_again: Iterable[str] = ()) -> None:
        """Fail if a task ran again without being marked as redelivered, unless it was published again."""
        seen: set[str] = set()
        unmarked: set[str] = set()
        for line in self.lines:
            if line.what == "start":
                if line.task_id in seen and not line.redelivered:
                    unmarked.add(line.task_id)
                seen.add(line.task_id)
        unmarked -= set(published_again)
        assert not unmarked, f"ran again without the mark of a redelivery: {some(unmarked)}"
