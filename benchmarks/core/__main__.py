"""The durable core: what events, outbox entries and signatures cost, how long a million events take to seal: `python -m benchmarks.core --help`.

Exit code 0 when it was measured, whether or not the goals held.
"""

import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import machine
from benchmarks.core import recording, signing
from benchmarks.core.database import migrated
from benchmarks.core.sealing import seal_all
from benchmarks.goals import Goal, show_goals, told
from benchmarks.intervals import paired_ratio
from benchmarks.run import keep
from benchmarks.running import running

ROUNDS, TRANSACTIONS, EVENTS = 10, 500, 1_000_000
KEPT, SEALED_WITHIN_S, SIGNED_WITHIN_US = 0.6, 60.0, 200.0

Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds that count.")]
Events = Annotated[int, typer.Option(min=1, help="How many events are sealed.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all readings and the settings to this file too.")]


def core(*, rounds: Rounds = ROUNDS, events: Events = EVENTS, json_file: JsonFile = None) -> None:
    """Measure, and print figures, ratios with their 95 % intervals, and goals."""
    console = Console()
    began = time.monotonic()

    def tell(what: str) -> None:
        console.print(f"{time.monotonic() - began:4.0f} s  {what}", highlight=False)

    rates: dict[str, list[float]] = {"with": [], "without": []}
    with running() as here, migrated(here) as database:
        about = machine.facts(here.folder) | {"commit_ms": machine.commit_ms(here.folder)}
        with database.transactions("federation_app") as transactions:
            for number in range(rounds + 1):
                tell(f"recording, round {number} of {rounds}" if number else "recording, warming up")
                for name, write in (("with", recording.with_event_and_outbox), ("without", recording.row_alone)):
                    rate = recording.rate(transactions, write, TRANSACTIONS)
                    if number:
                        rates[name].append(rate)
        tell("signing and checking executions")
        signed = signing.measure(here.folder / "keys")
        took = seal_all(database, here.folder / "seals", events, tell)
    ratio = paired_ratio(rates["with"], rates["without"])
    console.print(f"\nOne client, a transaction an execution, fsync on ({about['commit_ms']:.2f} ms a durable write), medians of {rounds} rounds:")
    console.print(f"  row, event and outbox entry  {median(rates['with']):8.0f} transactions/s")
    console.print(f"  the same row alone           {median(rates['without']):8.0f} transactions/s")
    console.print(f"{events:,} events: numbered in {took.numbering_s:.1f} s, sealed in {took.sealing_s:.1f} s")
    console.print(f"A signature of an execution: made in {signed.signing_us:.0f} µs, checked in {signed.checking_us:.0f} µs")
    console.print(f"  Ed25519 alone, of the same bytes, takes {signed.bare_us:.0f} µs of them\n")
    sealed_s = took.numbering_s + took.sealing_s
    goals = [
        Goal(f"with event and outbox ≥ {KEPT:g} of the row alone", "transactions/s", told(ratio), ratio.median >= KEPT),
        Goal(f"signed and checked in {SIGNED_WITHIN_US:g} µs", "an execution", f"{signed.both_us:.0f} µs", signed.both_us <= SIGNED_WITHIN_US),
        Goal(f"numbered and sealed in {SEALED_WITHIN_S:g} s", f"{events:,} events", f"{sealed_s:.1f} s", sealed_s <= SEALED_WITHIN_S),
    ]
    show_goals(goals, console)
    kept = {
        "commit": machine.revision(),
        "goals": [goal._asdict() for goal in goals],
        "machine": about,
        "versions": machine.versions(),
        "transactions_per_s": rates,
        "ratio": asdict(ratio),
        "events": events,
        "signature": asdict(signed),
        **asdict(took),
    }
    keep(kept, console, json_file)


if __name__ == "__main__":
    typer.run(core)
