"""`federation doctor`: checks this machine and says what to do; changes nothing."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from federation.cli.console import console, inert, print_json, table
from federation.local.checks import Finding, Verdict, all_findings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def doctor(as_json: AsJson = False) -> None:
    """Check this machine and the settings, and say what to do where something is wrong; change nothing.

    Exit code 1 when a check fails; a warning is none.
    """
    findings = all_findings()
    failed = any(finding.verdict is Verdict.FAIL for finding in findings)
    if as_json:
        print_json(json.dumps({"ok": not failed, "checks": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(findings)
    raise typer.Exit(1 if failed else 0)


def _print(findings: list[Finding]) -> None:
    rows = table("", "check", "saw", "what to do")
    for finding in findings:
        rows.add_row(f"[{_COLOURS[finding.verdict]}]{finding.verdict}[/]", finding.check, inert(finding.saw), inert(finding.remedy))
    console.print(rows)
