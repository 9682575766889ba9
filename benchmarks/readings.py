"""Figures as they are taken, and what they mean; takes none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a figure tells, and in which direction it is good; `decimals` as it is printed."""

    name: str
    title: str
    more_is_better: bool
    decimals: int = 0


@dataclass(frozen=True)
class Reading:
    """One figure of one peer in one round; `table` is where it will stand."""

    table: str
    measure: str
    peer: str
    round: int
    value: float
