"""An event as the rebuilding of tables needs it, and the rows that come of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Rows = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Told:
    """An event, as the rebuilding needs it."""

    type: str
    actor: str
    stream: str
    position: int
    conversation_id: str | None
    payload: Mapping[str, Any]

    def pick(self, *names: str) -> dict[str, Any]:
        """Return these fields of the payload; those that an older event does not have are left out, and so not compared."""
        return {name: self.payload[name] for name in names if name in self.payload}

    def fields(self) -> dict[str, Any]:
        """Return the payload without its version."""
        return {name: value for name, value in self.payload.items() if name != "version"}


def subject(event: Told) -> str:
    """Return what an event is about, by the name of its stream."""
    return event.stream.partition(":")[2]


def put(rows: Rows, table: str, key: str, /, **columns: Any) -> None:
    """Write these columns into a row, which is made if it is not there."""
    rows[table].setdefault(key, {}).update(columns)
