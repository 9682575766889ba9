"""A model loaded once per process, on first use; refuses to use one that a parent process loaded."""

import gc
import os
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from federation.errors import ModelUnavailable

T = TypeVar("T")


class OncePerProcess(Generic[T]):
    """Holds what `make` returns; threads that ask at the same time wait for one load."""

    def __init__(self, name: str, make: Callable[[int], T]) -> None:
        self._name = name
        self._make = make
        self._loaded: tuple[int, T] | None = None
        self._lock = Lock()
        # A fork while another thread loads would leave the child a lock that nobody opens.
        os.register_at_fork(after_in_child=self._forget_lock)

    def _forget_lock(self) -> None:
        self._lock = Lock()

    def get(self, threads: int) -> T:
        """Return the model; `threads` counts only for the call that loads it.

        Raises ModelUnavailable in a process whose parent had loaded the model before the fork.
        """
        loaded = self._loaded
        if loaded is None:
            with self._lock:
                loaded = self._loaded
                if loaded is None:
                    loaded = self._loaded = (os.getpid(), self._make(threads))
                    # What came with it stays, and need not be looked through again and again while it is asked.
                    gc.collect()
                    gc.freeze()
        pid, model = loaded
        if pid != os.getpid():
            # The runners' own threads do not survive a fork: a call would hang for ever.
            raise ModelUnavailable(f"{self._name} was loaded by process {pid} before this one was forked; load models after the fork only")
        return model
