"""One load per process, whatever the threads and forks do."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from federation.engines.loading import OncePerProcess
from federation.errors import ModelUnavailable


def test_threads_that_ask_at_once_share_one_load() -> None:
    loads: list[int] = []
    gate = threading.Barrier(8)
    once = OncePerProcess("model", lambda threads: loads.append(threads) or object())

    def ask(_: int) -> object:
        gate.wait()
        return once.get(2)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert loads == [2]


def test_failed_load_is_tried_again() -> None:
    outcomes = iter([OSError("gone"), None])

    def make(threads: int) -> str:
        if error := next(outcomes):
            raise error
        return "model"

    once = OncePerProcess("model", make)
    with pytest.raises(OSError, match="gone"):
        once.get(1)
    assert once.get(1) == "model"


def test_model_of_a_parent_process_is_refused_in_its_child() -> None:
    once = OncePerProcess("model", lambda threads: "loaded")
    once.get(1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = once.get(1)
        except ModelUnavailable as error:
            answer = str(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        assert f"was loaded by process {os.getpid()} before" in pipe.read()
