"""What the supervisor tells others, in `<data_dir>/run/state.json`; a view, never an instruction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from federation.local import children
from federation.local.home import Home, read_json, write_json


class PartState(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    DONE = "done"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Phase(StrEnum):
    """Where the whole is."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class PartView:
    """One part; `since` is seconds since the epoch, `born` names the process beyond its pid."""

    name: str
    state: PartState
    pid: int | None
    born: str | None
    restarts: int
    last_exit: str | None
    since: float

    @property
    def alive(self) -> bool:
        """Whether the very process that was started still lives."""
        return self.pid is not None and children.is_alive(self.pid, self.born)


@dataclass(frozen=True)
class View:
    """The supervisor and its parts.

    `started_by` is the command that a person gave, `failure` why it gave up, `problem` what hinders it now, `notices` what is otherwise than before.
    """

    pid: int
    born: str | None
    phase: Phase
    failure: str | None
    parts: Sequence[PartView]
    # Not yet told by a supervisor that was started before an upgrade.
    started_by: str = "up"
    problem: str | None = None
    notices: Sequence[str] = ()

    @property
    def alive(self) -> bool:
        """Whether the supervisor that wrote this still lives."""
        return children.is_alive(self.pid, self.born)


def write(home: Home, view: View) -> None:
    """Replace the file in one step."""
    write_json(home.state_file, asdict(view))


def read(home: Home) -> View | None:
    """Return the last view written; None when there never was one."""
    told = read_json(home.state_file)
    if not told:
        return None
    parts = [PartView(**{**part, "state": PartState(part["state"])}) for part in told.pop("parts")]
    return View(**{**told, "phase": Phase(told["phase"])}, parts=parts)


def running(home: Home) -> View | None:
    """Return the view of a supervisor that lives; None when there is none."""
    view = read(home)
    return view if view is not None and view.alive else None
