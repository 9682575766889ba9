"""The outcome as tables for people and as one JSON object; decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.rounds import POOLS, Plan, Sample
from benchmarks.servers.peer import Peer
from benchmarks.summary import MEASURES, Line, Measure, summarize
from benchmarks.workload import SAME_FOR_ALL


@dataclass(frozen=True)
class Outcome:
    """All that a run has to tell; `absent` names each peer that is missing, and why."""

    ours: str
    plan: Plan
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    peers: Sequence[Peer]
    absent: Mapping[str, str]
    samples: Sequence[Sample]
    took_s: float

    @property
    def lines(self) -> list[Line]:
        return summarize(self.samples, self.ours)

    @property
    def comparable(self) -> bool:
        """Whether ours and at least one peer were measured."""
        measured = {sample.peer for sample in self.samples}
        return self.ours in measured and len(measured) > 1


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as it is kept; no address and no password is in it."""
    return {
        "plan": asdict(outcome.plan),
        "pools": {pool.name: pool.slots for pool in POOLS},
        "celery": SAME_FOR_ALL,
        "machine": dict(outcome.machine),
        "versions": dict(outcome.versions),
        "peers": {peer.name: {"versions": dict(peer.versions), "durability": peer.durability} for peer in outcome.peers},
        "absent": dict(outcome.absent),
        "took_s": round(outcome.took_s, 1),
        "summary": [asdict(line) for line in outcome.lines],
        "samples": [asdict(sample) for sample in outcome.samples],
    }


def show(outcome: Outcome, console: Console) -> None:
    """Print a table for each pool, the settings that made the figures, and who is missing."""
    lines = outcome.lines
    for pool in POOLS:
        chosen = [line for line in lines if line.pool == pool.name]
        if chosen:
            console.print(_table(f"{pool.name}, {pool.slots} at once", chosen, outcome.ours))
    console.print(
        f"Median of {outcome.plan.rounds} interleaved rounds of {outcome.plan.tasks} tasks and {outcome.plan.calls} calls. "
        "Below a peer's figure: ours divided by it, median of the rounds' ratios and its 95 % bootstrap interval; "
        "[green]green[/]: ours is better, [red]red[/]: the peer is, the interval clear of parity.",
        highlight=False,
    )
    console.print(_settings(outcome))
    for name, reason in outcome.absent.items():
        console.print(f"[red]{name} is missing:[/]", end=" ")
        console.print(reason, markup=False, highlight=False)


def _table(title: str, lines: Sequence[Line], ours: str) -> Table:
    peers = list(dict.fromkeys(line.peer for line in lines))
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=True)
    table.add_column("measure")
    for peer in peers:
        table.add_column(peer, justify="right", style="bold" if peer == ours else None)
    found = {(line.measure, line.peer): line for line in lines}
    for measure in MEASURES:
        table.add_row(measure.title, *(_cell(found[measure.field, peer], measure) for peer in peers))
    return table


def _cell(line: Line, measure: Measure) -> str:
    value = f"{line.median:,.0f}" if measure.more_is_better else f"{line.median:.2f}"
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
    table.add_row(
        "measures",
        "published: by one client while the worker is held, so that a backlog builds up; processed: from letting go until the last one has ended, "
        "results stored; .delay().get(): one client, one call after the other",
    )
    for peer in outcome.peers:
        table.add_row(peer.name, ", ".join(f"{name} {version}" for name, version in peer.versions.items()) + f": {peer.durability}")
    same = SAME_FOR_ALL
    table.add_row(
        "Celery, all alike",
        f"acks_late {same['task_acks_late']}, prefetch multiplier {same['worker_prefetch_multiplier']}, serializer {same['task_serializer']}, "
        "publisher confirms where there are any, no events, gossip, mingle or heart-beats",
    )
    table.add_row("versions", ", ".join(f"{name} {version}" for name, version in outcome.versions.items()))
    machine = outcome.machine
    table.add_row(
        "machine",
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['file_system']}, {machine['system']}; "
        f"load average {machine['load_average']:.2f} before, {machine['load_average_after']:.2f} after",
    )
    commits = sorted(sample.commit_ms for sample in outcome.samples)
    if commits:
        median = commits[len(commits) // 2]
        table.add_row("disk", f"a durable write of 4 kB took {median:.2f} ms ({commits[0]:.2f} – {commits[-1]:.2f} between rounds)")
    table.add_row("took", f"{outcome.took_s:.0f} s")
    return table
