"""`federation doctor`: checks this machine and says what to do; changes nothing."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from federation.cli.console import console, print_json
from federation.local.checks import Finding, Verdict, all_findings

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def doctor(as_json: AsJson = False) -> None:
    """Check Python, disk, Java, ActiveMQ, PostgreSQL, models, ports, settings, permissions and the clock; exit code 1 when one fails."""
    findings = all_findings()
    failed = any(finding.verdict is Verdict.FAIL for finding in findings)
    if as_json:
        print_json(json.dumps({"ok": not failed, "checks": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(findings)
    raise typer.Exit(1 if failed else 0)


def _print(findings: list[Finding]) -> None:
    table = Table("", "check", "saw", "what to do", box=None, pad_edge=False, header_style="bold")
    for finding in findings:
        table.add_row(f"[{_COLOURS[finding.verdict]}]{finding.verdict}[/]", finding.check, finding.saw, finding.remedy)
    console.print(table)
