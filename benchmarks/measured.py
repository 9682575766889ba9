"""What one measurement of one peer tells; knows neither how it is taken nor what becomes of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Rates in tasks a second; `latencies_ms` holds one `.delay().get()` each."""

    published_per_s: float
    processed_per_s: float
    latencies_ms: list[float]
