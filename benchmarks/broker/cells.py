"""What is measured of a broker over kombu alone: which figures, with how many messages of which size; measures nothing."""

from dataclasses import dataclass

from benchmarks.readings import Measure

PREFETCH = 100
BATCH = 100
CONNECTIONS = 30

_KB = 1000


@dataclass(frozen=True)
class Cell:
    """One figure: messages of `size` bytes over `queues` queues in turn."""

    verb: str
    count: int
    size: int
    queues: int = 1

    @property
    def name(self) -> str:
        """The measure's name."""
        return f"{self.verb}_{self.size}_{self.queues}"

    @property
    def title(self) -> str:
        """What stands before its row."""
        size = f"{self.size} B" if self.size < _KB else f"{self.size // _KB} kB" if self.size < _KB * _KB else f"{self.size // _KB**2} MB"
        queues = "" if self.queues == 1 else f", {self.queues} queues"
        # What is less than a whole batch goes in one of its own size.
        by = f" by {min(BATCH, self.count)}," if self.verb == "batch" else ""
        return f"{VERBS[self.verb]}{by} {size}{queues}, messages/s"


VERBS = {"publish": "publish", "batch": "batch_publish", "consume": "consume + ack", "raw": "raw socket, consume + ack"}

CELLS = (
    *(Cell("publish", count, size) for size, count in ((100, 400), (10 * _KB, 300), (_KB * _KB, 20))),
    *(Cell("batch", count, size) for size, count in ((100, 3000), (10 * _KB, 1000), (_KB * _KB, 20))),
    *(Cell("consume", count, size) for size, count in ((100, 3000), (10 * _KB, 1000), (_KB * _KB, 20))),
    *(Cell(verb, count, 100, queues) for queues in (10, 100) for verb, count in (("publish", 400), ("batch", 1000), ("consume", 2000))),
)
RAW = Cell("raw", 3000, 100)

MEASURES = (
    *(Measure(cell.name, cell.title, True) for cell in (*CELLS, RAW)),
    Measure("client_kib", "memory of a connection in the client, KiB", False),
    Measure("broker_kib", "memory of a connection in the broker, KiB", False),
)
