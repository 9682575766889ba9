"""What a part of the local federation is: a command, how to know that it answers, how to end it; starts nothing itself but through `run`."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from federation.errors import LocalServiceError
from federation.local import children
from federation.local.forkserver import ForkServer

PYTHON = (sys.executable, "-m")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process, or one step that must succeed before the next part starts (`once`).

    `environment` is added to ours, and is where a part gets secrets of its own: other users cannot read it, as they can a command line.
    `back_after_s` is how long it waits when it has died the first time; None: as the supervisor says.
    `stop_signal` ends it in good order; `death_signal` ends it at once and loses nothing: the kernel sends it when who started the part is gone.
    """

    name: str
    command: Sequence[str | Path]
    is_ready: Callable[[], bool] = lambda: True
    prepare: Callable[[], None] = lambda: None
    once: bool = False
    account: children.Account | None = None
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    ready_within_s: float = 60.0
    back_after_s: float | None = None
    grace_s: float = 10.0


def spawn(part: Part, log: Path, forks: ForkServer | None = None) -> children.Process:
    """Start the part's process and do not wait for it; a module of Python is forked where there is a server for that."""
    if forks is None or tuple(part.command[:2]) != PYTHON:
        return children.spawn(part.command, log=log, account=part.account, death_signal=part.death_signal, cwd=part.cwd, environment=part.environment)
    with Path(os.devnull).open("rb") as nothing, log.open("ab") as output:
        return forks.start(
            [str(word) for word in part.command[2:]],
            cwd=part.cwd,
            environment={**children.environment_for(part.account), **part.environment},
            files=(nothing.fileno(), output.fileno(), output.fileno()),
            death_signal=part.death_signal,
        )


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def run(part: Part, log: Path) -> children.Process:
    """Prepare the part, start it and wait until it answers.

    Raises LocalServiceError with the end of its log when it died or did not answer in time.
    """
    part.prepare()
    process = spawn(part, log)
    try:
        answered = children.wait_until(lambda: process.poll() is not None or part.is_ready(), part.ready_within_s)
    except BaseException:
        children.stop(process, part.stop_signal, grace_s=part.grace_s)
        raise
    if process.poll() is None and answered:
        return process
    status = children.stop(process, part.stop_signal, grace_s=part.grace_s)
    story = f"ended with status {status}" if answered else f"did not answer within {part.ready_within_s:g} s"
    raise LocalServiceError(f"{part.name} {story}; the end of {log}:\n{tail(log)}")
