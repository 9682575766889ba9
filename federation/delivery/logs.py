"""Log lines with an event's name, its fields and the trace id, as text or as JSON; sets up nothing by itself."""

import json
import logging
import sys
from contextvars import ContextVar
from textwrap import indent
from typing import Any

from federation.foreign import one_line, visible

# The trace of the execution that runs here.
trace: ContextVar[str | None] = ContextVar("trace", default=None)

# Uvicorn's `color_message` is its message once more, with the colours of a terminal.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data", "color_message"}
_FURTHER_IN = "    "


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if (trace_id := trace.get()) is not None:
        fields.setdefault("trace_id", trace_id)
    return fields


class TextFormatter(logging.Formatter):
    """`time level logger event name=value …`, on one line whatever others wrote; a traceback follows, further in."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return one_line(" ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in _fields(record).items())]))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return indent(visible(super().formatException(ei)), _FURTHER_IN)

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        return indent(visible(super().formatStack(stack_info)), _FURTHER_IN)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"at": self.formatTime(record), "level": record.levelname, "logger": record.name, "event": record.getMessage(), **_fields(record)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str | int, *, as_json: bool, file: str | None = None) -> None:
    """Send all logs to standard error, or to a file, in one form."""
    handler = logging.FileHandler(file) if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
