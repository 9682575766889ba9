"""Rows of results and Celery's meta dictionaries, each made from the other; touches no database."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

# Columns of their own; all else that Celery puts into a meta dictionary lies in `details`.
_OWN = ("status", "result", "traceback", "children", "date_done", "group_id", "task_id")


class Row(NamedTuple):
    """A stored result as it lies in the table; the JSON is not decoded."""

    task_id: str
    state: str
    result: str | None
    traceback: str | None
    children: str | None
    details: str | None
    group_id: str | None
    date_done: datetime | None


def parameters(task_id: str, meta: dict[str, Any], encode: Callable[[Any], str], group_index: int | None) -> dict[str, Any]:
    """Return the parameters of the statement that stores this meta dictionary."""
    details = {name: value for name, value in meta.items() if name not in _OWN and value is not None}
    traceback = meta["traceback"]
    return {
        "task_id": task_id,
        "state": meta["status"],
        "result": encode(meta["result"]),
        "traceback": None if traceback is None else _storable(str(traceback)),
        "children": encode(meta["children"]) if meta["children"] else None,
        "details": encode(details) if details else None,
        "group_id": meta.get("group_id"),
        "group_index": group_index,
    }


def meta(row: Row, decode: Callable[[str | None], Any]) -> dict[str, Any]:
    """Return the meta dictionary of a row, exceptions still as dictionaries."""
    found: dict[str, Any] = dict(decode(row.details) or {})
    found |= {
        "task_id": row.task_id,
        "status": row.state,
        "result": decode(row.result),
        "traceback": row.traceback,
        "children": decode(row.children) or [],
        "date_done": row.date_done.isoformat() if row.date_done else None,
    }
    if row.group_id is not None:
        found["group_id"] = row.group_id
    return found


def _storable(text: str) -> str:
    # PostgreSQL's text holds neither NUL nor lone surrogates, and a traceback may quote any source line.
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
