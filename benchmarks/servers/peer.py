"""What the measurement knows of a peer: its addresses and what is to be told of it; starts nothing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.running import Running


@dataclass(frozen=True)
class Peer:
    """A broker and a result backend that answer; `durability` says what is on disk when, in words.

    `durable`: messages are persistent and confirmed; otherwise neither. `broker_pid` is the broker's process.
    """

    name: str
    broker_url: str
    result_backend: str
    versions: Mapping[str, str]
    durability: str
    broker_pid: int
    durable: bool = True


Start = Callable[[Running], AbstractContextManager[Peer]]


def changed(start: Start, **changes: Any) -> Start:
    """Return what starts the same peer, with other words or addresses in its description."""

    @contextmanager
    def changed(running: Running) -> Iterator[Peer]:
        with start(running) as peer:
            yield replace(peer, **changes)

    return changed
