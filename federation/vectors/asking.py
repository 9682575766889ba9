"""What LanceDB computes, in threads of its own, and on the event loop that it has in each process."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from lancedb.background_loop import LOOP

T = TypeVar("T")


def begin(coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
    """Have something computed while the caller goes on; the result waits for it, and raises what it raises."""
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP.loop)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Wait for what is computed."""
    return begin(coroutine).result()
