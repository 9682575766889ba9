"""The services of the program itself, by the names that they act under, and in whose process each acts: the key of that part signs for it."""

from collections.abc import Mapping

# The role of all of them. It says what they are, and no right follows: they act in their own.
ROLE = "service"

DOOR = "service:door"
BEAT = "service:beat"
WORKER = "service:worker"
OUTBOX = "service:outbox"
RELAY = "service:relay"
FEEDER = "service:feeder"
SEALER = "service:sealer"
REBALANCER = "service:rebalancer"

SERVICES: Mapping[str, str] = {
    DOOR: "looks tokens up, and does what follows of a call",
    BEAT: "does what is due: heartbeats, summaries, ends of votes and tasks, results to forget",
    WORKER: "counts what is delivered, and puts aside what may not run",
    OUTBOX: "sends executions, right after the commit or later",
    RELAY: "puts events in order and publishes them",
    FEEDER: "hands messages on to agents that speak STOMP",
    SEALER: "seals the event log",
    REBALANCER: "moves the work of nodes that are gone",
}
_OF_BEAT = (BEAT, OUTBOX, RELAY, FEEDER, SEALER, REBALANCER)


def acting_in(part: str) -> tuple[str, ...]:
    """Return the services that act in a part, such as `node:taichi`, or in what a person runs, such as `cli:nora`."""
    if part == BEAT:
        return _OF_BEAT
    # Who starts `federation mcp` has a front door of his own.
    return (WORKER if part.startswith("node:") else DOOR, OUTBOX)
