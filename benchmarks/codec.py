"""Our STOMP codec beside stomp.py's, on the frames of a Celery task: `python -m benchmarks.codec`; opens no socket."""

import os
import platform
import sys
import timeit
from collections.abc import Callable
from importlib.metadata import version

os.environ["STOMP_SKIP_HOSTNAME_SCAN"] = "1"  # stomp.py looks up host names when it is imported

from stomp import utils
from stomp.protocol import Protocol12

from benchmarks.intervals import paired_ratio
from federation.broker.envelope import pack
from federation.broker.frames import Decoder, encode

ROUNDS = 15
FRAMES_A_ROUND = 2000
TASK = {
    "body": b'[[1, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": {
        "lang": "py",
        "task": "federation.tasks.summaries.summarize_conversation",
        "id": "9f0c3f4e-3f0b-4c5e-9d38-2f6f6f9b1e55",
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": "9f0c3f4e-3f0b-4c5e-9d38-2f6f6f9b1e55",
        "parent_id": None,
        "argsrepr": "(1, 2)",
        "kwargsrepr": "{}",
        "origin": "gen4711@taichi",
        "ignore_result": False,
    },
    "properties": {
        "correlation_id": "9f0c3f4e-3f0b-4c5e-9d38-2f6f6f9b1e55",
        "reply_to": "5f3a0c1e-9f64-3a7b-8e21-1c4e7b9d2f10",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "taichi"},
        "priority": 0,
    },
}


class Escaping(Protocol12):  # type: ignore[misc]  # without types
    """stomp.py's protocol without its connection: only for the method that escapes headers."""

    def __init__(self) -> None:
        """Open nothing."""


ESCAPING = Escaping()


def stomp_py_encode(headers: dict[str, str], body: bytes) -> bytes:
    """Encode as stomp.py's `send` does."""
    frame = utils.Frame("SEND", {**headers, "content-length": len(body)}, body)
    ESCAPING._escape_headers(frame.headers)
    return b"".join(utils.convert_frame(frame))


def frames() -> tuple[dict[str, str], bytes, bytes]:
    """Return headers and body of a SEND, and the MESSAGE that a worker gets of it."""
    headers, body = pack(TASK, "/queue/federation.node.taichi", max_bytes=1 << 20)
    added = {"message-id": "ID:taichi-1:2:-1:1:1", "subscription": "7", "ack": "ID:taichi-1:3", "expires": "0"}
    return headers, body, encode("MESSAGE", {**headers, **added}, body)


def microseconds(work: Callable[[], object]) -> float:
    """Return the time of one call, as the mean of one round."""
    return timeit.timeit(work, number=FRAMES_A_ROUND) / FRAMES_A_ROUND * 1e6


def main() -> None:
    """Measure in turn, so that what disturbs a round disturbs both, and print medians and the ratio with its interval."""
    headers, body, received = frames()
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "encode a SEND": (lambda: encode("SEND", headers, body), lambda: stomp_py_encode(dict(headers), body)),
        "decode a MESSAGE": (lambda: Decoder().feed(received), lambda: utils.parse_frame(received[:-1])),
    }
    system = f"Python {platform.python_version()}, stomp.py {version('stomp.py')}, {os.cpu_count()} cores"
    sys.stdout.write(f"{system}; a MESSAGE of {len(received)} bytes, {ROUNDS} interleaved rounds of {FRAMES_A_ROUND} frames\n")
    for name, (ours, theirs) in pairs.items():
        rounds = [(microseconds(ours), microseconds(theirs)) for _ in range(ROUNDS)]
        mine, other = ([pair[side] for pair in rounds] for side in (0, 1))
        ratio = paired_ratio(other, mine)
        middle = ROUNDS // 2
        sys.stdout.write(f"{name}: ours {sorted(mine)[middle]:.1f} µs, stomp.py {sorted(other)[middle]:.1f} µs; ")
        sys.stdout.write(f"{ratio.median:.1f} times ({ratio.low:.1f} to {ratio.high:.1f})\n")


if __name__ == "__main__":
    main()
