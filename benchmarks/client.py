"""One measurement of one peer, in a process of its own: a JSON object in, one line of JSON out; starts no server and no worker.

cd <folder of the peer> && echo '{"queue": "prefork", "slots": 2, "tasks": 600, "calls": 100}' | python -m benchmarks.client
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from celery import chord

from benchmarks.intervals import percentile
from benchmarks.workload import ENDED, HELD, JOINED, LATE, LET_GO, PARTS, app, hold, join, nap, noop, note_lateness, part

_WITHIN_S = 60.0
_WARM_UP_CALLS = 10
_ETA_AHEAD_S = 1.5
_ETA_APART_S = 0.05
_NAP_S = 0.05


def latencies_ms(queue: str, calls: int) -> list[float]:
    """Call the no-op and wait for its result, again and again; the first few calls, which connect, do not count."""
    taken = []
    for _ in range(_WARM_UP_CALLS + calls):
        began = time.perf_counter()
        noop.apply_async(queue=queue).get(timeout=_WITHIN_S)
        taken.append((time.perf_counter() - began) * 1000)
    return taken[_WARM_UP_CALLS:]


def rates(queue: str, slots: int, tasks: int) -> tuple[float, float]:
    """Return what was published a second while the worker was held, and then processed a second, results stored."""
    for path in (ENDED, HELD):
        _empty(path)
    LET_GO.unlink(missing_ok=True)
    for _ in range(slots):
        hold.apply_async(queue=queue, ignore_result=True)
    _wait_until(lambda: _bytes(HELD) == slots, "every slot of the worker is held")
    began = time.perf_counter()
    results = [noop.apply_async(queue=queue) for _ in range(tasks)]
    published = time.perf_counter() - began
    began = time.perf_counter()
    LET_GO.touch()
    _wait_until(lambda: _bytes(ENDED) >= tasks, "all tasks are processed")
    processed = time.perf_counter() - began
    results[-1].get(timeout=_WITHIN_S)  # what counts as stored can be read
    return tasks / published, tasks / processed


def lateness_ms(queue: str, tasks: int) -> list[float]:
    """Send tasks with an ETA each, and return how late each ran."""
    _empty(LATE)
    for number in range(tasks):
        ahead_s = _ETA_AHEAD_S + number * _ETA_APART_S
        note_lateness.apply_async((time.time() + ahead_s,), countdown=ahead_s, queue=queue, ignore_result=True)
    _wait_until(lambda: len(LATE.read_text().splitlines()) >= tasks, "all tasks with an ETA have run")
    return [float(line) * 1000 for line in LATE.read_text().splitlines()]


def known_after_ms(queue: str, naps: int) -> list[float]:
    """Wait for tasks that take a while, and return how long after its end each result was known."""
    taken = []
    for _ in range(naps):
        ended = nap.apply_async((_NAP_S,), queue=queue).get(timeout=_WITHIN_S)
        taken.append((time.time() - ended) * 1000)
    return taken


def hand_over_ms(queue: str, parts: int) -> float:
    """Run a chord and return how long after the last part of its header the body ran."""
    for path in (PARTS, JOINED):
        _empty(path)
    chord([part.si().set(queue=queue) for _ in range(parts)])(join.s().set(queue=queue))
    _wait_until(lambda: _bytes(JOINED) > 0, "the body of the chord has run")
    last, joined = (max(map(float, path.read_text().splitlines())) for path in (PARTS, JOINED))
    return (joined - last) * 1000


def joins_chords() -> bool:
    """Return whether the result backend can."""
    try:
        app.backend.ensure_chords_allowed()
    except NotImplementedError:
        return False
    return True


def _empty(path: Path) -> None:
    path.touch()
    path.write_bytes(b"")


def _bytes(path: Path) -> int:
    return path.stat().st_size


def _wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_WITHIN_S:g} s: {what}")
        time.sleep(0.001)


def main(*, queue: str, slots: int, tasks: int, calls: int, etas: int = 0, parts: int = 0, naps: int = 0) -> None:
    """Measure and print, by the names of `benchmarks.rounds.MEASURES`; ETAs, naps and the parts of a chord only if there are to be some."""
    # Latency first: the results of the backlog, which nobody fetches, would lie in the way of rpc's.
    taken = latencies_ms(queue, calls)
    published, processed = rates(queue, slots, tasks)
    told = {"processed_per_s": processed, "published_per_s": published, "p50_ms": percentile(taken, 50), "p99_ms": percentile(taken, 99)}
    if etas:
        late = lateness_ms(queue, etas)
        told |= {"eta_late_p50_ms": percentile(late, 50), "eta_late_p99_ms": percentile(late, 99)}
    if naps:
        told["known_after_ms"] = percentile(known_after_ms(queue, naps), 50)
    if parts and joins_chords():
        told["hand_over_ms"] = hand_over_ms(queue, parts)
    print(json.dumps(told))
    app.close()


if __name__ == "__main__":
    main(**json.load(sys.stdin))
