"""Shows the parts of a supervisor in the terminal, from a thread of its own; who supervises waits for no terminal that stands still or is gone."""

import os
import queue
import threading
from types import TracebackType
from typing import Self

from rich.live import Live

from federation.cli.console import console, give_up_output, view_table
from federation.local.state import View

# A terminal that has not taken the last lines by then (Ctrl-S, a broken connection) will not take them.
_TAKES_WITHIN_S = 2.0


class Display:
    """A table of parts that follows the last view shown, and lines above it; `transient` removes the table in the end."""

    def __init__(self, *, transient: bool = False) -> None:
        self._transient = transient
        self._view: View | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._news = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._draw, name="display", daemon=True)

    def show(self, view: View) -> None:
        """Show this soon; returns at once."""
        self._view = view
        self._news.set()

    def say(self, line: str) -> None:
        """Write a line, which may hold rich's markup, above the table soon; returns at once."""
        self._lines.put(line)
        self._news.set()

    def _draw(self) -> None:
        try:
            self._follow()
        except OSError:
            give_up_output()

    def _follow(self) -> None:
        with Live(get_renderable=lambda: view_table(self._view), console=console, auto_refresh=False, transient=self._transient) as live:
            over = False
            while not over:
                self._news.wait()
                self._news.clear()
                # Looked at before the news, so that the last of them is shown.
                over = self._over
                while not self._lines.empty():
                    live.console.print(self._lines.get())
                live.refresh()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over = True
        self._news.set()
        self._thread.join(_TAKES_WITHIN_S)
        if self._thread.is_alive():
            # Python would wait for the thread's lock on standard output when it ends.
            os._exit(1 if error else 0)
