"""The outcome as tables for people and as one JSON object; decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.goals import Goal
from benchmarks.readings import Measure, Reading
from benchmarks.servers.peer import Peer
from benchmarks.summary import Line, summarize
from benchmarks.workload_settings import SAME_FOR_ALL


@dataclass(frozen=True)
class Outcome:
    """All that a run has to tell; `absent` names each peer that is missing, and why; `notes` say how a figure was taken."""

    ours: str
    plan: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    peers: Sequence[Peer]
    absent: Mapping[str, str]
    measures: Sequence[Measure]
    readings: Sequence[Reading]
    commits_ms: Sequence[float]
    notes: Mapping[str, str]
    took_s: float
    commit: str = ""
    goals: Sequence[Goal] = ()

    @property
    def lines(self) -> list[Line]:
        return summarize(self.readings, self.ours)

    @property
    def comparable(self) -> bool:
        """Whether ours and at least one peer were measured."""
        measured = {reading.peer for reading in self.readings}
        return self.ours in measured and len(measured) > 1


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as it is kept; no address and no password is in it."""
    return {
        "commit": outcome.commit,
        "plan": dict(outcome.plan),
        "celery": SAME_FOR_ALL,
        "machine": dict(outcome.machine),
        "versions": dict(outcome.versions),
        "peers": [{"name": peer.name, "versions": dict(peer.versions), "durability": peer.durability} for peer in outcome.peers],
        "absent": dict(outcome.absent),
        "notes": dict(outcome.notes),
        "took_s": round(outcome.took_s, 1),
        "goals": [goal._asdict() for goal in outcome.goals],
        "summary": [asdict(line) for line in outcome.lines],
        "commits_ms": list(outcome.commits_ms),
        "readings": [asdict(reading) for reading in outcome.readings],
    }


def show(outcome: Outcome, console: Console) -> None:
    """Print all tables, the settings that made the figures, and who is missing."""
    lines = outcome.lines
    for title in dict.fromkeys(line.table for line in lines):
        console.print(_table(title, [line for line in lines if line.table == title], outcome))
    console.print(
        "Medians of interleaved rounds ("
        + ", ".join(f"{name} {value}" for name, value in outcome.plan.items())
        + "). Below a peer's figure: ours divided by it, median of the rounds' ratios and its 95 % bootstrap interval; "
        "[green]green[/]: ours is better, [red]red[/]: the peer is, the interval clear of parity.",
        highlight=False,
    )
    console.print(_settings(outcome))
    for name, reason in outcome.absent.items():
        console.print(f"[red]{name} is missing:[/]", end=" ")
        console.print(reason, markup=False, highlight=False)


def _table(title: str, lines: Sequence[Line], outcome: Outcome) -> Table:
    peers = sorted({line.peer for line in lines}, key=lambda name: (name != outcome.ours, name))
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=True)
    table.add_column("measure")
    for peer in peers:
        table.add_column(peer, justify="right", style="bold" if peer == outcome.ours else None)
    found = {(line.measure, line.peer): line for line in lines}
    for measure in outcome.measures:
        cells = [found.get((measure.name, peer)) for peer in peers]
        if any(cells):
            table.add_row(measure.title, *(_cell(line, measure) if line else "" for line in cells))
    return table


def _cell(line: Line, measure: Measure) -> str:
    value = f"{line.median:,.{measure.decimals}f}"
    if line.ratio is None:
        return value
    told = f"{line.ratio.median:.2f} ({line.ratio.low:.2f} – {line.ratio.high:.2f})"
    if line.ratio.clear:
        better = (line.ratio.median > 1) is measure.more_is_better
        told = f"[{'green' if better else 'red'}]{told}[/]"
    return f"{value}\n{told}"


def _settings(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, note in outcome.notes.items():
        table.add_row(name, note)
    for peer in outcome.peers:
        table.add_row(peer.name, ", ".join(f"{name} {version}" for name, version in peer.versions.items()) + f": {peer.durability}")
    same = SAME_FOR_ALL
    table.add_row(
        "Celery, all alike",
        f"acks_late {same['task_acks_late']}, prefetch multiplier {same['worker_prefetch_multiplier']}, serializer {same['task_serializer']}, "
        "no events, gossip, mingle or heart-beats",
    )
    table.add_row("versions", ", ".join(f"{name} {version}" for name, version in outcome.versions.items()))
    machine = outcome.machine
    table.add_row(
        "machine",
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['file_system']}, {machine['system']}; "
        f"load average {machine['load_average']:.2f} before, {machine['load_average_after']:.2f} after",
    )
    commits = sorted(outcome.commits_ms)
    if commits:
        median = commits[len(commits) // 2]
        table.add_row("disk", f"a durable write of 4 kB took {median:.2f} ms ({commits[0]:.2f} – {commits[-1]:.2f} between rounds)")
    table.add_row("took", f"{outcome.took_s:.0f} s")
    return table
