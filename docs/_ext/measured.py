"""Tables of what was measured, as Markdown, from the kept results of benchmarks and fault tests; measures nothing."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from reference import table

from benchmarks.broker import kept

HEAD = ("fault", "times", "held", "work", "lost", "doubled", "recovery p50", "max", "test took")
RESULTS = Path(kept.__file__).parents[1] / "results"


def faults() -> str:
    """Return what each fault cost in the kept run of `make faults`."""
    run = _newest("faults")
    rows = []
    for fault in sorted(run["faults"], key=lambda fault: str(fault["fault"])):
        if fault.get("not_run"):
            rows.append((f"{fault['fault']}: not run, {fault['not_run']}", "0", "**no**", *"––––––"))
            continue
        took = fault["recovery_s"]
        recovery = (f"{median(took):.1f} s", f"{max(took):.1f} s") if took else ("–", "–")
        held = "yes" if fault["held"] else "**no**"
        rows.append(
            (fault["fault"], str(fault["times"]), held, str(fault["work"]), str(fault["lost"]), str(fault["doubled"]), *recovery, _minutes(fault))
        )
    commits = ", ".join(f"`{commit}`" for commit in sorted({fault["commit"] for fault in run["faults"]}))
    about = run.get("machine", run)
    words = [f"At {commits}", f"on {about['cores']} cores"]
    if "versions" in run:
        words += [f"{run['date']}", f"{about['processor']}", f"{about['memory_gib']:g} GiB", *(f"{name} {run['versions'][name]}" for name in _SHOWN)]
    return f"{table(HEAD, rows)}\n\n{', '.join(words)}."


# Whose versions stand below the table of faults.
_SHOWN = ("Python", "celery", "kombu", "psycopg")


def _minutes(fault: Mapping[str, Any]) -> str:
    took = fault.get("duration_s")
    return "–" if took is None else f"{took:.0f} s" if took < 120 else f"{took / 60:.1f} min"


def broker_benchmark() -> str:
    """Return the transport beside its peers in the kept run of `make bench-broker`."""
    found = _newest("broker")
    return f"{table(kept.HEAD, kept.rows(found))}\n\n{kept.about(found)}"


def _newest(what: str) -> Any:
    return json.loads(max(RESULTS.glob(f"*-{what}.json")).read_text("utf-8"))


SECTIONS: dict[str, Callable[[], str]] = {"faults": faults, "broker-benchmark": broker_benchmark}
