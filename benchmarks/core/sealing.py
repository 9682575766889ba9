"""How long the order and the seals of many events take, from events without a number to seals in the database and in the file."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.core.database import Database
from federation.delivery.relay import NUMBERED_AT_ONCE, number
from federation.delivery.sealing import Sealer

STREAMS = 1000
_EVENTS = """
INSERT INTO events (stream, position, type, actor, payload, trace_id)
SELECT 'benchmark:' || n %% %(streams)s, n / %(streams)s + 1, 'benchmark.happened', 'benchmark',
    jsonb_build_object('number', n, 'text', repeat('x', 200)), md5(n::text)
FROM generate_series(0, %(count)s - 1) AS n
"""


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds."""

    numbering_s: float
    sealing_s: float


def seal_all(database: Database, folder: Path, count: int, tell: Callable[[str], None]) -> Took:
    """Write so many events without measuring, then number and seal them."""
    tell(f"writing {count:,} events")
    with psycopg.connect(database.url(), autocommit=True) as connection:
        connection.execute(_EVENTS, {"streams": STREAMS, "count": count})
        connection.execute("ANALYZE events")
    with database.transactions("federation_service") as transactions:
        tell("numbering them")
        began = time.perf_counter()
        awaited, numbered = number(transactions, None)
        while numbered == NUMBERED_AT_ONCE:
            awaited, numbered = number(transactions, awaited)
        numbering_s = time.perf_counter() - began
        tell("sealing them")
        began = time.perf_counter()
        Sealer(transactions, folder=folder).seal()
        return Took(numbering_s, time.perf_counter() - began)
