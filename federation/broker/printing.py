"""Rows on standard output, as a table for people or as JSON for programs; progress on standard error."""

import base64
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any


def as_row(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; a body that is no text comes as `body_base64`."""
    row = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    body: bytes = row.pop("body")
    try:
        row["body"] = body.decode()
    except UnicodeDecodeError:
        row["body_base64"] = base64.b64encode(body).decode()
    return row


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, leave_out: Iterable[str] = ()) -> None:
    """Print rows; what is left out of the table is in the JSON."""
    if as_json:
        _print(json.dumps(rows, indent=2, default=_plain))
    elif rows:
        hidden = set(leave_out)
        names = [name for name in rows[0] if name not in hidden]
        lines = [names, *([_cell(row[name]) for name in names] for row in rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
        for line in lines:
            _print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    else:
        _print("none", file=sys.stderr)


def progress(done: int, total: int) -> None:
    """Say how far it is, where somebody looks."""
    if sys.stderr.isatty():
        _print(f"\r{done:,} of {total:,}", end="\n" if done >= total else "", file=sys.stderr)


def tell(text: str) -> None:
    """Print a line beside the result."""
    _print(text, file=sys.stderr)


def _cell(value: Any) -> str:
    text = "" if value is None else value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value)
    # One line each, and nothing that a terminal obeys.
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _print(text: str, **options: Any) -> None:
    print(text, **options)  # noqa: T201 - a command's words
