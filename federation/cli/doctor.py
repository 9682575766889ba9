"""`federation doctor`: checks this machine and says what to do; changes nothing."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from federation.cli.console import console, inert, print_json, table
from federation.engines import catalogue, digests
from federation.errors import SettingsError
from federation.local.artifacts import artifacts
from federation.local.checks import Finding, Verdict, all_findings
from federation.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def doctor(as_json: AsJson = False) -> None:
    """Check this machine and the settings, and say what to do where something is wrong; change nothing.

    Exit code 1 when a check fails; a warning is none.
    """
    findings = all_findings(weights, artifacts)
    failed = any(finding.verdict is Verdict.FAIL for finding in findings)
    if as_json:
        print_json(json.dumps({"ok": not failed, "checks": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(findings)
    raise typer.Exit(1 if failed else 0)


def weights(config: Settings) -> Iterator[Finding]:
    """The files of the models that are installed are those that nodes load."""
    for entry in catalogue.ENGINES:
        root = entry.root()
        if root is None:
            continue
        try:
            # All of it is read, as a node does: nothing cheaper tells.
            wrong = digests.differences(entry.model, root)
        except SettingsError as error:
            yield Finding("weights", Verdict.FAIL, str(error))
            return
        if wrong:
            saw = f"not as known of {entry.model}, which no node loads: {', '.join(str(each.path) for each in wrong)}"
            remedy = f"install the model again, or, if you changed it and trust it: federation model add {entry.model} {root}"
            yield Finding("weights", Verdict.FAIL, saw, remedy)
        else:
            yield Finding("weights", Verdict.OK, f"{entry.model} is as known")


def _print(findings: list[Finding]) -> None:
    rows = table("", "check", "saw", "what to do")
    for finding in findings:
        rows.add_row(f"[{_COLOURS[finding.verdict]}]{finding.verdict}[/]", finding.check, inert(finding.saw), inert(finding.remedy))
    console.print(rows)
