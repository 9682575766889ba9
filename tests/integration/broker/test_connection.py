"""Connecting, parting, and everything in between that goes wrong, on real sockets."""

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import kombu
import pytest
from kombu.asynchronous.hub import Hub

from federation.broker.errors import AccessRefused, ConnectionLost, NotStomp, OtherBroker, RequestRefused


@contextmanager
def peer(speak: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one connection that says what it likes; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                speak(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


# For a peer that says nothing; whoever is to answer is given longer than this process may stand still.
SHORT_S = 0.5
PATIENTLY = {"max_retries": 100, "interval_start": 0.2, "interval_max": 0.5}


def connection_to(port: int, *, connect_timeout: float = 60, **options: Any) -> kombu.Connection:
    return kombu.Connection(f"activemq://user:secret@127.0.0.1:{port}/", connect_timeout=connect_timeout, **options)


def test_a_wrong_password_is_named_at_once_and_not_shown(activemq: Any) -> None:
    connection = kombu.Connection(f"activemq://{activemq.user}:{quote('wr:ong')}@{activemq.host}:{activemq.port}/")
    with pytest.raises(AccessRefused, match=activemq.user) as caught:
        connection.connect()
    assert "wr:ong" not in str(caught.value)


def test_a_closed_port_says_where_it_looked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionLost, match=f"127.0.0.1:{port}.*is ActiveMQ running"):
        connection_to(port).connect()


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        b"AMQP\0\0\x09\x01",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"-ERR unknown command 'CONNECT'\r\n",
        b"CONNECTED\nheart-beat:now,then\n\n\0",
        b"RECEIPT\nreceipt-id:1\n\n\0",
        b"CONNECTED\nversion:1.0\n\n\0",
    ],
)
def test_a_peer_that_speaks_something_else_is_named(greeting: bytes) -> None:
    with peer(lambda connection: connection.sendall(greeting)) as port, pytest.raises(NotStomp, match="point the broker URL"):
        connection_to(port).connect()


@pytest.mark.parametrize("server", ["RabbitMQ/4.1.0", "ActiveMQ-Artemis/2.41.0 ActiveMQ Artemis Messaging Engine"])
def test_another_broker_that_speaks_stomp_is_refused_by_its_name(server: str) -> None:
    greeting = f"CONNECTED\nversion:1.2\nserver:{server}\nheart-beat:0,0\n\n\0".encode()
    with peer(lambda connection: connection.sendall(greeting)) as port, pytest.raises(OtherBroker, match=f"is {server}, .*ActiveMQ Classic"):
        connection_to(port).connect()


def test_a_path_in_the_url_is_told_to_mean_nothing_once(activemq: Any, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("projects/a", "projects/a", ""):
        with kombu.Connection(f"{activemq.url.rstrip('/')}/{path}") as connection:
            connection.connect()
    told = [record.getMessage() for record in caplog.records if "has no effect" in record.getMessage()]
    assert len(told) == 1, told
    assert "projects/a" in told[0]
    assert "queue_prefix" in told[0]


@pytest.mark.parametrize("closes", ["channel", "connection"])
def test_what_is_asked_of_a_closed_channel_is_told_as_a_lost_connection(activemq: Any, closes: str) -> None:
    with kombu.Connection(activemq.url) as connection:
        channel = connection.channel()
        channel.queue_declare("closed.work")
        (channel if closes == "channel" else connection).close()
        for ask in (
            lambda: channel.queue_declare("closed.work"),
            lambda: channel.exchange_declare("closed.exchange", "direct"),
            lambda: channel.queue_bind("closed.work", "closed.exchange", "key"),
            lambda: channel.basic_get("closed.work"),
            lambda: channel.basic_consume("closed.work", False, print, "tag"),
            lambda: channel.queue_purge("closed.work"),
            lambda: channel.queue_delete("closed.work"),
        ):
            with pytest.raises(ConnectionLost, match=r"open another one|not connected|closed by us"):
                ask()


def test_a_host_without_address_is_named() -> None:
    with pytest.raises(ConnectionLost, match=r"cannot connect to nowhere.invalid:61613"):
        kombu.Connection("activemq://nowhere.invalid/").transport.establish_connection()


def test_a_peer_that_hangs_up_is_named() -> None:
    # A proxy does this while no broker is behind it, so it is worth another try.
    with peer(lambda connection: None) as port, pytest.raises(ConnectionLost, match="closed the connection before it was set up"):
        connection_to(port).transport.establish_connection()


@pytest.mark.parametrize("drip", [b"\n", b"CONNECTED\nversion:1.2\nx:y\n"])
def test_a_peer_that_never_finishes_its_answer_is_left_within_the_time_out(drip: bytes) -> None:
    def speak(connection: socket.socket) -> None:
        connection.sendall(drip)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(drip[-1:])

    with peer(speak) as port, pytest.raises((ConnectionLost, NotStomp), match=r"said nothing|longer than"):
        connection_to(port, connect_timeout=SHORT_S).transport.establish_connection()


@contextmanager
def full() -> Iterator[tuple[str, int]]:
    """A listener whose backlog is full, so that who connects waits and hears nothing; yields its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as clients:
        connected = True
        while connected:
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            _, connected, _ = select.select([], [client], [], SHORT_S)
        yield server.getsockname()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every name have these addresses: there is no server of names here that could."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


# With the whole time for each address it would take five minutes.
@pytest.mark.timeout(120)
def test_all_addresses_of_a_host_share_the_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with full() as nowhere:
        resolve_to(monkeypatch, *[nowhere] * 600)
        with pytest.raises(ConnectionLost, match=r"cannot connect to.*timed out"):
            connection_to(nowhere[1], connect_timeout=SHORT_S).transport.establish_connection()


def test_a_host_whose_first_address_says_nothing_is_reached_by_its_second(activemq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with full() as nowhere:
        resolve_to(monkeypatch, nowhere, (activemq.host, activemq.port))
        with kombu.Connection(activemq.url, connect_timeout=8) as connection:
            assert connection.connect().connected


def test_a_password_cannot_smuggle_a_header_in() -> None:
    heard: list[bytes] = []
    password = quote("a\nhost:b")
    with peer(lambda connection: heard.append(connection.recv(4096))) as port, pytest.raises(ConnectionLost):
        kombu.Connection(f"activemq://user:{password}@127.0.0.1:{port}/").transport.establish_connection()
    assert b"passcode:a\\nhost\\cb\n" in heard[0]


def test_a_silent_peer_is_left_within_the_time_out() -> None:
    enough = threading.Event()
    with peer(lambda connection: enough.wait(60) and None) as port:
        with pytest.raises(ConnectionLost, match="said nothing"):
            connection_to(port, connect_timeout=SHORT_S).transport.establish_connection()
        enough.set()


def greet(connection: socket.socket, heartbeat: str = "0,0") -> None:
    connection.recv(4096)
    connection.sendall(f"CONNECTED\nversion:1.2\nheart-beat:{heartbeat}\n\n\0".encode())


def test_a_slow_peer_is_waited_for_while_it_takes_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.broker.connection.SECONDS_TO_WRITE", 1.0)
    size, taken = 24 << 20, 0
    # A link that is slower than the limit for the whole, but never silent: by a clock that goes on with the bytes that were taken,
    # and not while this process stands still.
    monkeypatch.setattr("federation.broker.connection.monotonic", lambda: taken / (10 << 20))

    def speak(connection: socket.socket) -> None:
        nonlocal taken
        greet(connection)
        while taken < size:
            taken += len(connection.recv(1 << 16))

    with peer(speak) as port:
        connection = connection_to(port)
        connection.connect()
        connection.transport.wire.send(bytes(size))
    assert taken == size


def test_a_peer_that_takes_no_bytes_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.broker.connection.SECONDS_TO_WRITE", 0.3)
    enough = threading.Event()

    def speak(connection: socket.socket) -> None:
        greet(connection)
        enough.wait(60)

    with peer(speak) as port:
        connection = connection_to(port)
        connection.connect()
        with pytest.raises(ConnectionLost, match="took no bytes"):
            connection.transport.wire.send(bytes(24 << 20))
        enough.set()


def test_a_peer_whose_heartbeats_stop_is_cut() -> None:
    enough = threading.Event()

    def speak(connection: socket.socket) -> None:
        greet(connection, "100,100")
        enough.wait(60)

    with peer(speak) as port:
        connection = connection_to(port, heartbeat=0.1)
        connection.connect()
        assert connection.get_heartbeat_interval() == 0.1
        with pytest.raises(ConnectionLost, match="silent"):
            connection.drain_events(timeout=60)
        enough.set()


def test_heartbeats_keep_an_idle_connection(bus: Any, queue: kombu.Queue) -> None:
    # ActiveMQ cuts a client whose heart-beats stay away for about three intervals. An interval that a machine under load can hold:
    # a broker that gets no processor for two of them is cut rightly.
    beat_s = 2.0
    connection = bus.connect(heartbeat=beat_s)
    inbox = bus.listen(connection, queue, no_ack=True)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=4 * beat_s)
    bus.publish(connection, queue, "still here")
    assert inbox.wait()[0].decode() == "still here"


def test_a_refused_destination_is_an_error_of_the_channel(bus: Any, activemq: Any) -> None:
    stomp_url = f"activemq://stomp:{quote(activemq.passwords['stomp'])}@{activemq.host}:{activemq.port}/"
    bus.url = stomp_url
    connection = bus.connect()
    name = "federation.node.secret"
    with pytest.raises(RequestRefused, match="rights"):
        bus.publish(connection, kombu.Queue(name, routing_key=name), "mine")


def test_a_forked_child_can_neither_use_nor_disturb_the_connection(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    inbox = bus.listen(connection, queue)
    bus.publish(connection, queue, "before")
    inbox.wait()[0].ack()
    channel = connection.default_channel
    child = os.fork()
    if child == 0:
        status = 1
        try:
            channel.basic_publish(channel.prepare_message("[]"), "", queue.name)
        except ConnectionLost:
            # kombu's way to leave a parent's connection; the next one is the child's own.
            connection.collect()
            bus.publish(connection, queue, "child")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    bus.publish(connection, queue, "after")
    inbox.wait(3)
    assert sorted(inbox.bodies) == ["after", "before", "child"]


def test_many_threads_publish_and_acknowledge_on_one_connection(bus: Any, queue: kombu.Queue) -> None:
    connection = bus.connect()
    acknowledged: list[Any] = []
    inbox = bus.listen(connection, queue, prefetch_count=20)

    def publish_some(start: int) -> None:
        producer = kombu.Producer(connection.channel())
        for number in range(start, start + 25):
            producer.publish(number, routing_key=queue.name)

    def acknowledge(message: Any) -> None:
        message.ack()
        acknowledged.append(message.decode())

    threads = [threading.Thread(target=publish_some, args=(start,)) for start in range(0, 100, 25)]
    for thread in threads:
        thread.start()
    settled = 0
    while settled < 100:
        inbox.wait(settled + 1)
        for message in inbox.messages[settled:]:
            threads.append(threading.Thread(target=acknowledge, args=(message,)))
            threads[-1].start()
            settled += 1
    for thread in threads:
        thread.join()
    assert sorted(acknowledged) == list(range(100))
    bus.wait_for(lambda: queue(bus.connect().default_channel).queue_declare(passive=True).message_count == 0, "the queue is empty")


def test_an_event_loop_delivers_what_a_publisher_read_on_the_way(bus: Any, queue: kombu.Queue) -> None:
    """The receipt of a publish and a message may come in one piece: then the socket stays quiet and the loop must be woken."""
    connection = bus.connect()
    hub = Hub()
    received: list[Any] = []
    with kombu.Consumer(connection, [queue], on_message=received.append, no_ack=True):
        connection.register_with_event_loop(hub)
        for number in range(50):
            bus.publish(connection, queue, number)
        deadline = time.monotonic() + 60
        while len(received) < 50 and time.monotonic() < deadline:
            hub.run_once()
    hub.close()
    assert [message.decode() for message in received] == list(range(50))


def test_without_confirms_a_dead_peer_is_still_noticed_before_the_send(bus: Any, queue: kombu.Queue, activemq: Any) -> None:
    connection = bus.connect(confirm_publish=False)
    bus.publish(connection, queue, "one")
    bus.wait_for(lambda: queue(connection.default_channel).queue_declare(passive=True).message_count == 1, "the first is stored")
    activemq.kill()
    try:
        with pytest.raises(ConnectionLost):
            bus.publish(connection, queue, "lost?")
    finally:
        activemq.start()
    producer = kombu.Producer(connection)
    producer.publish("two", routing_key=queue.name, retry=True, retry_policy=PATIENTLY)
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    inbox.wait(2)
    assert inbox.bodies == ["one", "two"]


def test_a_confirmed_message_is_not_written_where_the_peer_has_ended() -> None:
    written, ended = bytearray(), threading.Event()

    def speak(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0")
        connection.shutdown(socket.SHUT_WR)
        ended.set()
        while data := connection.recv(4096):
            written.extend(data)

    with peer(speak) as port:
        connection = connection_to(port)
        channel = connection.default_channel
        assert ended.wait(60)
        with pytest.raises(ConnectionLost, match="closed the connection"):
            channel.basic_publish(channel.prepare_message("[]"), "", "somewhere")
        connection.collect()
    assert bytes(written) == b""


def test_confirmed_messages_survive_a_killed_broker(bus: Any, queue: kombu.Queue, activemq: Any) -> None:
    connection = bus.connect()
    confirmed: list[int] = []
    for number in range(200):
        if number == 100:
            activemq.kill()
            with pytest.raises(ConnectionLost):
                bus.publish(connection, queue, "unconfirmed")
            activemq.start()
        kombu.Producer(connection).publish(number, routing_key=queue.name, retry=True, retry_policy=PATIENTLY)
        confirmed.append(number)
    inbox = bus.listen(bus.connect(), queue, no_ack=True)
    inbox.wait(len(confirmed))
    assert set(confirmed) <= set(inbox.bodies)
