"""What the broker's scheduler keeps: a list of it, and removal; asks ActiveMQ's management topic on a connection of its own."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from federation.broker import destinations
from federation.broker.connection import StompConnection
from federation.broker.delays import DELAY, JOB_ID, guard_ms, read_eta
from federation.broker.envelope import unpack
from federation.broker.errors import ConnectionLost
from federation.broker.frames import Frame, encode
from federation.broker.opening import own_transport

SECONDS_TO_ANSWER = 10.0

_MANAGEMENT = "/topic/ActiveMQ.Scheduler.Management"
_ACTION = "AMQ_SCHEDULER_ACTION"
_LAST = "federation_last"
_GUARDS = "/topic/ActiveMQ.Scheduler.Guard"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A message that is not due yet; `task`, `task_id` and `eta` are None where Celery did not send it, and `headers` are those of kombu."""

    job_id: str
    queue: str
    task: str | None
    task_id: str | None
    eta: datetime | None
    headers: dict[str, Any]
    stomp_headers: dict[str, str]
    body: bytes


def list_scheduled(connection: Any) -> list[Scheduled]:
    """Return what is scheduled, the next one first.

    `connection` is a kombu connection to ActiveMQ, of which a copy is opened. A broker without a scheduler keeps nothing.
    Raises ConnectionLost.
    """
    with own_transport(connection) as transport:
        found = [_read(frame, transport.options.queue_prefix) for frame in _browse(transport.wire)]
    return sorted(found, key=lambda one: (one.eta is None, one.eta.timestamp() if one.eta else 0.0))


def remove_scheduled(connection: Any, job_id: str) -> bool:
    """Remove one of the scheduled messages for good; return whether it was there and not due.

    Raises RequestRefused without the right to write to the topics `ActiveMQ.Scheduler.>`, and ConnectionLost.
    """
    with own_transport(connection) as transport:
        found = {frame.headers.get(JOB_ID): frame.headers for frame in _browse(transport.wire)}
        before_ms = guard_ms(found[job_id]) if job_id in found else 0
        if before_ms:
            # A removal that empties the first of two leaves of ActiveMQ's index fails, and a broker that is killed then fails at it again at each
            # start (JobSchedulerImpl goes on reading what it has just changed). What is due earlier keeps that leaf from becoming empty.
            _request(transport.wire, _GUARDS, {DELAY: str(before_ms)})
            _request(transport.wire, _MANAGEMENT, {_ACTION: "REMOVE", JOB_ID: job_id})
        return before_ms > 0


def _request(wire: StompConnection, destination: str, headers: dict[str, str]) -> None:
    receipt = wire.next_id()
    wire.request(encode("SEND", {"destination": destination, "receipt": receipt, **headers}), receipt, SECONDS_TO_ANSWER)


def _browse(wire: StompConnection) -> Iterator[Frame]:
    place, mine, listed = destinations.replies(wire.address.user), secrets.token_hex(16), set[str]()
    with _replies(wire, place) as frames:
        _request(wire, _MANAGEMENT, {_ACTION: "BROWSE", "reply-to": place})
        # The broker has sent all replies before it gives that receipt. Of no higher priority than any of them, this one comes last.
        wire.send(encode("SEND", {"destination": place, _LAST: mine, "priority": "0"}))
        while True:
            if not wire.read(SECONDS_TO_ANSWER, lambda: bool(frames)):
                raise ConnectionLost(f"{wire.address} did not list its schedule within {SECONDS_TO_ANSWER:g} s; look at its log, and try again")
            frame = frames.popleft()
            if frame.headers.get(_LAST) == mine:
                return
            # What another connection of this user is answered meanwhile is heard here too.
            job = frame.headers.get(JOB_ID)
            if job is None or job in listed or frame.headers.get("original-destination") == _GUARDS:
                continue
            listed.add(job)
            yield frame


@contextmanager
def _replies(wire: StompConnection, place: str) -> Iterator[Any]:
    identity, receipt = wire.next_id(), wire.next_id()
    headers = {"id": identity, "destination": place, "ack": "auto", "receipt": receipt}
    frames = wire.collect(identity)
    try:
        wire.request(encode("SUBSCRIBE", headers), receipt, SECONDS_TO_ANSWER)
        yield frames
    finally:
        wire.stop_collecting(identity)
        wire.send(encode("UNSUBSCRIBE", {"id": identity}))


def _read(frame: Frame, prefix: str) -> Scheduled:
    queue = destinations.queue_name(frame.headers.get("original-destination", ""), prefix)
    headers = unpack(frame, queue)["headers"]
    task, task_id = headers.get("task"), headers.get("id")
    return Scheduled(frame.headers[JOB_ID], queue, task, task_id, read_eta(headers), headers, dict(frame.headers), frame.body)
