"""Any name, any bytes, any size up to the broker's limit; stomp.py is the witness that what we send is plain STOMP."""

import contextlib
import queue as thread_queue
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import kombu
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.broker import destinations
from federation.broker.dead_letters import list_dead_letters
from federation.broker.errors import HeaderRefused, MessageTooLarge, NameRefused

NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60)
RAW = {"content_type": "application/data", "content_encoding": "binary"}
MEGABYTE = 1_000_000


class Witness:
    """stomp.py, which shares no line with us."""

    def __init__(self, server: Any) -> None:
        import stomp

        frames: thread_queue.Queue[Any] = thread_queue.Queue()

        class Listener(stomp.ConnectionListener):  # type: ignore[misc]
            def on_message(self, frame: Any) -> None:
                frames.put(frame)

            def on_receipt(self, frame: Any) -> None:
                frames.put(frame)

        self._frames = frames
        self._ids = iter(range(1, 1_000_000))
        self._connection = stomp.Connection12([(server.host, server.port)], auto_decode=False)
        self._connection.set_listener("", Listener())
        self._connection.connect(server.user, server.password, wait=True)

    def send(self, destination: str, body: bytes, **headers: str) -> None:
        receipt = f"r{next(self._ids)}"
        self._connection.send(destination, body, headers={"persistent": "true", **headers}, receipt=receipt)
        assert self._frames.get(timeout=60).headers["receipt-id"] == receipt

    def receive(self, destination: str) -> Any:
        identity = str(next(self._ids))
        self._connection.subscribe(destination, id=identity, ack="auto", headers={"activemq.prefetchSize": "1"})
        frame = self._frames.get(timeout=60)
        self._connection.unsubscribe(id=identity)
        return frame

    def close(self) -> None:
        self._connection.disconnect()


@pytest.fixture
def witness(activemq: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    monkeypatch.setenv("STOMP_SKIP_HOSTNAME_SCAN", "1")
    opened = Witness(activemq)
    yield opened
    opened.close()


def named(name: str) -> kombu.Queue:
    return kombu.Queue(name, routing_key=name)


def as_bytes(body: str | bytes) -> bytes:
    return body if isinstance(body, bytes) else body.encode()


def test_any_name_is_a_queue_of_its_own(bus: Any, witness: Witness) -> None:
    connection = bus.connect(queue_prefix=f"any.{uuid.uuid4().hex}.")
    channel = connection.default_channel

    @settings(max_examples=60, deadline=None, database=None)
    @given(NAMES, st.booleans())
    def check(name: str, by_witness: bool) -> None:
        if by_witness:
            witness.send(destinations.queue(name, connection.transport_options["queue_prefix"]), name.encode())
        else:
            bus.publish(connection, named(name), name)
        message = named(name)(channel).get(no_ack=True)
        assert as_bytes(message.body) == name.encode()
        assert named(name)(channel).get(no_ack=True) is None

    check()


def test_names_that_mean_something_elsewhere_mean_nothing_here(bus: Any) -> None:
    names = [
        "a,b",
        "a?consumer.prefetchSize=1",
        "*",
        ">",
        "a.>",
        "a.*.b",
        "a:b",
        "queue://x",
        "topic://x",
        " ",
        "a\nb",
        "a\\nb",
        "%2C",
        "ä/…",
        "a..b",
        ".",
        "~",
    ]
    connection = bus.connect(queue_prefix=f"odd.{uuid.uuid4().hex}.")
    for name in names:
        bus.publish(connection, named(name), name)
    for name in names:
        inbox = bus.listen(connection, named(name), no_ack=True)
        assert inbox.wait()[0].decode() == name
        assert inbox.stays_at(1), name


def test_any_bytes_come_through_both_ways(bus: Any, witness: Witness, queue: kombu.Queue) -> None:
    connection = bus.connect()
    channel = connection.default_channel
    destination = f"/queue/{queue.name}"

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.binary(max_size=3000), st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=200))
    def check(body: bytes, header: str) -> None:
        bus.publish(connection, queue, body, headers={"note": header}, stomp_headers={"note": header}, **RAW)
        frame = witness.receive(destination)
        assert as_bytes(frame.body) == body
        assert frame.headers["note"] == header
        witness.send(destination, body, note=header)
        message = queue(channel).get(no_ack=True)
        assert as_bytes(message.body) == body
        assert message.headers["stomp"]["note"] == header

    check()


def test_twenty_megabytes_come_through_both_ways(bus: Any, witness: Witness, queue: kombu.Queue) -> None:
    body = uuid.uuid4().bytes * (20 * MEGABYTE // 16)
    connection = bus.connect()
    bus.publish(connection, queue, body, **RAW)
    assert as_bytes(witness.receive(f"/queue/{queue.name}").body) == body
    witness.send(f"/queue/{queue.name}", body)
    assert bus.listen(connection, queue, no_ack=True).wait()[0].body == body


def test_what_the_broker_would_cut_the_connection_for_is_refused_before(activemq: Any, server_dir: Path, bus: Any, queue: kombu.Queue) -> None:
    limit = 50_000
    server = type(activemq)(server_dir / "small-frames", {"maxFrameSize=104857600": f"maxFrameSize={limit}"})
    server.start()
    try:
        with kombu.Connection(server.url, transport_options={"max_frame_size": limit}) as connection:

            def goes(size: int, *, batched: bool) -> bool:
                producer = kombu.Producer(connection)
                try:
                    with producer.batch() if batched else contextlib.nullcontext():
                        producer.publish(b"x" * size, routing_key=queue.name, declare=[queue], headers={"note": ":" * (size % 7)}, **RAW)
                except MessageTooLarge:
                    return False
                return True

            sizes = [*range(limit - 1500, limit + 10, 50), 2 * limit]
            largest = max(size for size in sizes for batched in (False, True) if goes(size, batched=batched))
            assert limit - 1500 < largest < limit
            with pytest.raises(connection.channel_errors, match="limit is 50000"):
                bus.publish(connection, queue, "x", headers={"note": ":" * limit})
            with pytest.raises(connection.channel_errors, match="limit is 50000"):
                bus.publish(connection, queue, "x", stomp_headers={f"note{number}": "x" * 4900 for number in range(11)})
            connection.default_channel.queue_purge(queue.name)
            goes(largest, batched=False)
            # It has to be told more of a message that comes back, or dies for a long reason.
            inbox = bus.listen(connection, queue)
            inbox.wait()[0].requeue()
            second = inbox.wait(2)[1]
            connection.default_channel.dead_letter(connection.default_channel.qos.take(second.delivery_tag)[0], "x" * 2000)
            (letter,) = list_dead_letters(connection, queue.name)
            assert len(letter.body) == largest
            bus.publish(connection, queue, "alive")
            assert inbox.wait(3)[2].decode() == "alive"
    finally:
        server.stop()


def test_headers_beyond_what_the_broker_reads_are_refused_and_the_connection_lives(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    with pytest.raises(HeaderRefused, match="7 MB"):
        bus.publish(connection, queue, "x", headers={"note": "x" * 8 * MEGABYTE})
    with pytest.raises(HeaderRefused, match="1,000"):
        bus.publish(connection, queue, "x", stomp_headers={f"note{number}": 1 for number in range(1000)})
    bus.publish(connection, queue, "x", headers={"note": "x" * 6 * MEGABYTE})
    (message,) = bus.listen(connection, queue, no_ack=True).wait()
    assert len(message.headers["note"]) == 6 * MEGABYTE


@pytest.mark.parametrize("sign", ["x", ":", "ä"])
def test_a_name_that_is_too_long_is_refused_and_the_connection_lives(bus: Any, sign: str) -> None:
    connection = bus.connect(queue_prefix="long.")
    longest = destinations.MOST_NAME_BYTES // len(quote(sign, safe=""))
    bus.publish(connection, named(sign * longest), "alive")
    with pytest.raises(NameRefused):
        bus.publish(connection, named(sign * (longest + 1)), "x")
    with pytest.raises(NameRefused):
        bus.listen(connection, named(sign * (longest + 1)))
    assert bus.listen(connection, named(sign * longest), no_ack=True).wait()[0].decode() == "alive"
