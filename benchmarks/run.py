"""One run of a comparison: starts what can be had, measures it, and ends all of it; knows no measure."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine
from benchmarks.goals import Goal, show_goals
from benchmarks.readings import Measure, Reading
from benchmarks.report import Outcome, as_json, show
from benchmarks.rounds import Progress, Taken
from benchmarks.running import Running, running
from benchmarks.servers.peer import Peer, Start
from federation.errors import LocalServiceError

Measuring = Callable[[Running, Sequence[Peer], Progress], Taken]


def compare(
    starters: Mapping[str, Start],
    measuring: Measuring,
    console: Console,
    *,
    ours: str,
    plan: Mapping[str, Any],
    measures: Sequence[Measure],
    notes: Mapping[str, str],
    judge: Callable[[Sequence[Reading]], Sequence[Goal]] = lambda readings: (),
) -> Outcome:
    """Start each server, let `measuring` take its readings and `judge` see them, and return all that there is to tell."""
    began = time.monotonic()
    absent: dict[str, str] = {}
    with running() as here, ExitStack() as servers:
        about = machine.facts(here.folder)
        present: list[Peer] = []
        for name, start in starters.items():
            console.print(f"Starting {name}.")
            try:
                present.append(servers.enter_context(start(here)))
            except LocalServiceError as error:
                absent[name] = str(error)
        with console.status("") as status:

            def tell(what: str) -> None:
                status.update(what)
                if not console.is_terminal:
                    console.print(f"{time.monotonic() - began:4.0f} s  {what}", highlight=False)

            taken = measuring(here, present, tell)
        about |= {"load_average_after": os.getloadavg()[0]}
    return Outcome(
        ours=ours,
        plan=plan,
        machine=about,
        versions=machine.versions(),
        peers=[peer for peer in present if peer.name not in taken.failures],
        absent=absent | taken.failures,
        measures=measures,
        readings=taken.readings,
        commits_ms=taken.commits_ms,
        notes=notes,
        took_s=time.monotonic() - began,
        commit=machine.revision(),
        goals=judge(taken.readings),
    )


def tell_and_keep(outcome: Outcome, console: Console, json_file: Path | None) -> None:
    """Print tables and goals, and write the JSON if asked."""
    show(outcome, console)
    if outcome.goals:
        show_goals(outcome.goals, console)
    keep(as_json(outcome), console, json_file)


def keep(told: Mapping[str, Any], console: Console, json_file: Path | None) -> None:
    """Write the JSON if asked."""
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(told, indent=1) + "\n")
        console.print(f"Written to {json_file}.")
