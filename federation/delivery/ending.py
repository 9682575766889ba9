"""Ends what a running execution waits for, from another thread: on a pool of threads nothing else ends it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ends: dict[str, Callable[[], None]] = {}
_changing = threading.Lock()


@contextmanager
def by(task_id: str, end: Callable[[], None]) -> Iterator[None]:
    """While the block runs, have `end` called when the execution is cancelled or over its time; it must not wait for anything."""
    with _changing:
        _ends[task_id] = end
    try:
        yield
    finally:
        with _changing:
            _ends.pop(task_id, None)


def end(task_id: str) -> None:
    """End it, if it is in this process and waits for something that can be ended."""
    with _changing:
        found = _ends.get(task_id)
    if found is not None:
        found()
