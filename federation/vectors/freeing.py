"""Gives memory back to the system that the indexing of a tree has used, and has threads share what they free; frees nothing that is in use."""

import ctypes
import gc
import os
from contextlib import suppress
from typing import Final

import pyarrow as pa

# Of glibc's malloc.h.
_ARENA_MAX: Final = -8
# So many new objects are looked through at once, and how often that is done before older ones are.
_SELDOM: Final = (50_000, 20, 100)


def share_arenas() -> None:
    """Have the threads that come share as many heaps as there are cores, in place of eight a core, each of which keeps what it was once asked for."""
    # Of glibc alone.
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, len(os.sched_getaffinity(0)))


def collect_seldom() -> None:
    """Have Python look for garbage more seldom: a tree has tens of thousands of pieces, and it walked through all of them as they came."""
    gc.set_threshold(*_SELDOM)


def give_back() -> None:
    """Give back what allocators keep for later: after a tree of 18 MB, a quarter of what the process has."""
    pa.default_memory_pool().release_unused()
    # Of glibc alone.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
