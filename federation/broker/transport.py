"""kombu transport for Apache ActiveMQ over STOMP 1.2: `activemq://user:password@host:61613/`, with TLS `activemqs://`; imports nothing else of ours.

Features: direct, topic and fanout; acks, requeue and dead letters; prefetch; priorities 0 to 9; expiry; publisher confirms;
batches in a transaction; remote control and events; heart-beats; an event loop without polling.
Options: see `federation.broker.options.Options`.
"""

import contextlib
import threading
from time import monotonic
from typing import Any

from federation.broker.bases import BaseTransport
from federation.broker.celery_worker import join_compatible_transports, pause_in_a_worker
from federation.broker.channel import Channel
from federation.broker.connection import StompConnection
from federation.broker.dialing import Address, dial
from federation.broker.errors import (
    AccessRefused,
    ArgumentRefused,
    ConnectionLost,
    HeaderRefused,
    MessageTooLarge,
    NameRefused,
    NotStomp,
    OptionRefused,
    OptionUnknown,
    RequestRefused,
    StatisticsMissing,
    StatisticsSilent,
    TlsFailed,
    Unroutable,
)
from federation.broker.flower_page import show_queues_in_flower
from federation.broker.options import SECONDS_TO_CONNECT, Options, read_options, tell_path, tell_unknown
from federation.broker.statistics import Statistics, probe
from federation.broker.subscription import Subscription

DEFAULT_PORT = 61613
DEFAULT_TLS_PORT = 61614
# What a new consumer waits for more messages, once, after the first: they come in several pieces.
SECONDS_TO_SETTLE = 0.02
MOST_SECONDS_TO_SETTLE = 0.2


class Transport(BaseTransport):  # type: ignore[misc]  # see bases
    """One kombu connection and its socket."""

    Channel = Channel
    default_port = DEFAULT_PORT
    always_tls = False
    driver_type = "stomp"
    driver_name = "federation.broker"
    polling_interval = None
    implements = BaseTransport.implements.extend(
        asynchronous=True, batch_publish=True, heartbeats=True, exchange_type=frozenset(("direct", "topic", "fanout"))
    )
    connection_errors = (ConnectionLost, NotStomp, AccessRefused, TlsFailed, OSError)
    channel_errors = (
        *(RequestRefused, MessageTooLarge, HeaderRefused, NameRefused, ArgumentRefused, OptionRefused, OptionUnknown, Unroutable, StatisticsMissing),
        *BaseTransport.channel_errors,
    )
    # A wrong password or a wrong port stays wrong: kombu must not try it again, for ever and in silence, while a caller waits.
    recoverable_connection_errors = (ConnectionLost,)
    recoverable_channel_errors = ()

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.options: Options = read_options(client.transport_options or {})
        self.queues: dict[str, bool] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.fresh = False
        self._loss_told = False
        self._wire: StompConnection | None = None
        self._loop: Any = None
        self._loop_thread = 0
        self._woken = False
        self._statistics: Statistics | None = None
        self._statistics_missing: StatisticsMissing | None = None
        self._first_question = threading.Lock()
        join_compatible_transports(self.driver_type)
        show_queues_in_flower(self.driver_type)

    @property
    def wire(self) -> StompConnection:
        """The connection to the broker; raises ConnectionLost if there is none."""
        if self._wire is None:
            raise ConnectionLost("not connected to ActiveMQ; connect first")
        return self._wire

    # -- connecting

    def driver_version(self) -> str:
        """The protocol's version."""
        return "STOMP 1.2"

    def _address(self) -> Address:
        client = self.client
        host, port = client.hostname or "localhost", int(client.port or self.default_port)
        return Address(host, port, client.userid or "", client.password or "", client.ssl or self.always_tls)

    def _dial(self, heartbeat_s: float) -> StompConnection:
        timeout_s = self.client.connect_timeout or SECONDS_TO_CONNECT
        address = self._address()
        dialed = dial(address, timeout_s=timeout_s, heartbeat_s=heartbeat_s, max_frame_bytes=self.options.max_frame_size)
        return StompConnection(address, dialed)

    def establish_connection(self) -> "Transport":
        """Connect and log in; raises ConnectionLost, AccessRefused, NotStomp, TlsFailed, TlsMisconfigured, OptionRefused or OptionUnknown."""
        self.options = read_options(self.client.transport_options or {})
        tell_unknown(self.client.transport_options or {})
        tell_path(self.client.virtual_host or "")
        self._forget()
        beat = float((self.client.heartbeat if self.options.heartbeat is None else self.options.heartbeat) or 0)
        # Also kombu's own, which is Celery's `broker_heartbeat`.
        read_options({"heartbeat": beat})
        try:
            self._wire = self._dial(beat)
        except (AccessRefused, NotStomp, TlsFailed):
            pause_in_a_worker()
            raise
        super().establish_connection()
        return self

    def _forget(self) -> None:
        if self._wire is not None:
            self._wire.close()
        # The next connection may lead to another broker, or to this one with its plugin.
        self._wire = self._statistics = self._statistics_missing = None
        self.subscriptions = {}
        self._loss_told = False
        self._avail_channels.clear()

    def close_connection(self, connection: Any) -> None:
        """Close the channels and part from the broker in good order."""
        self._leave_loop()
        super().close_connection(connection)
        self._forget()

    def _collect(self, connection: Any) -> None:
        # kombu calls this in a forked child: the socket is the parent's, so nothing may be said on it.
        if self._wire is not None:
            self._wire.close()
        self.channels.clear()
        self._avail_channels.clear()
        self._wire = self._loop = None
        # One of the parent's threads may have held it.
        self._first_question = threading.Lock()

    def verify_connection(self, connection: Any) -> bool:
        """Whether the connection lives, as far as is known; if it is lost, not before its consumers have heard of that.

        kombu connects anew wherever it meets a connection that has ended, without its consumers: whoever drains for them would wait for ever.
        """
        wire = self._wire
        return wire is not None and (wire.alive or (wire.failed and bool(self.subscriptions) and not self._loss_told))

    @property
    def connected(self) -> bool:
        """The same, as an attribute."""
        return self.verify_connection(self)

    # -- heart-beats

    def get_heartbeat_interval(self, connection: Any) -> float:
        """Return the agreed seconds between heart-beats, 0 for none."""
        return self.wire.beat_s

    def heartbeat_check(self, connection: Any, rate: int = 2) -> None:
        """Send a heart-beat if one is due; raises ConnectionLost if the broker's did not come."""
        self.wire.beat(rate)

    # -- receiving

    def _deliver_waiting(self) -> int:
        inbox = self.wire.inbox
        delivered = 0
        for _ in range(len(inbox)):
            if not inbox:
                # A callback has drained in its turn.
                break
            frame = inbox.popleft()
            subscription = self.subscriptions.get(frame.headers.get("subscription", ""))
            # Unknown: it was under way when its subscription ended, and the broker has taken it back.
            if subscription is not None:
                delivered += 1
                subscription.owner.on_frame(subscription, frame)
        return delivered

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Deliver every message that has arrived; wait for one for at most `timeout` seconds.

        Raises socket.timeout if none came, ConnectionLost.
        """
        try:
            self._drain(timeout)
        except ConnectionLost:
            self._loss_told = True
            raise

    def _drain(self, timeout: float | None) -> None:
        wire = self.wire
        deadline = None if timeout is None else monotonic() + timeout
        beat = wire.beat_s / 2
        while not self._deliver_waiting():
            remaining = None if deadline is None else deadline - monotonic()
            if not wire.read(_shorter(remaining, beat), lambda: bool(wire.inbox)) and deadline is not None and monotonic() >= deadline:
                raise TimeoutError
            if beat:
                wire.beat()
        if self.fresh:
            self.fresh = False
            settled_by = monotonic() + MOST_SECONDS_TO_SETTLE
            while monotonic() < settled_by and wire.read(SECONDS_TO_SETTLE, lambda: bool(wire.inbox)):
                self._deliver_waiting()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let the event loop deliver, as soon as there is something to read."""
        self._loop, self._loop_thread, self._woken = loop, threading.get_ident(), False
        self.wire.on_waiting = self._wake_loop
        loop.add_reader(self.wire.fileno(), self.on_readable, connection, loop)
        self.wire.tell_waiting()

    def _wake_loop(self) -> None:
        loop = self._loop
        if loop is None or self._woken:
            return
        self._woken = True
        if threading.get_ident() == self._loop_thread:
            # What the loop's own thread calls soon may wait for a whole poll of a second; a timer runs before it.
            loop.call_later(0, self.on_readable, self, loop)
        else:
            loop.call_soon(self.on_readable, self, loop)

    def unregister_from_event_loop(self, connection: Any, loop: Any) -> None:
        """Leave the event loop."""
        self._leave_loop()

    def _leave_loop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._wire is not None and self._wire.fileno() >= 0:
            self._wire.on_waiting = None
            # A loop that was closed has no poller any more.
            with contextlib.suppress(AttributeError, OSError, KeyError, ValueError):
                loop.remove_reader(self._wire.fileno())

    def on_readable(self, connection: Any, loop: Any) -> None:
        """Deliver what has arrived, at most a turn's worth; raises ConnectionLost."""
        wire = self._wire
        if wire is None or self._loop is None:
            # Called soon before the connection was closed.
            return
        self._loop_thread = threading.get_ident()
        self._woken = False
        try:
            wire.read(0)
            while wire.inbox:
                self._deliver_waiting()
        except ConnectionLost:
            self._loss_told = True
            raise
        finally:
            wire.tell_waiting()

    # -- statistics

    def statistics(self) -> Statistics:
        """Return what answers for queue sizes; raises StatisticsMissing."""
        # Two subscriptions to the same replies would share them out between themselves.
        with self._first_question:
            if self._statistics_missing is not None:
                raise self._statistics_missing
            if self._statistics is None:
                try:
                    probe(self._dial(0))
                except StatisticsSilent:
                    raise
                except StatisticsMissing as error:
                    self._statistics_missing = error
                    raise
                self._statistics = Statistics(self.wire)
            return self._statistics

    def statistics_or_none(self) -> Statistics | None:
        """Return the same, None if the broker has none."""
        try:
            return self.statistics()
        except StatisticsMissing:
            return None


class SecureTransport(Transport):
    """The same with TLS, also where nothing says how: then the system's certificates decide whom to trust."""

    default_port = DEFAULT_TLS_PORT
    always_tls = True


def _shorter(remaining: float | None, beat: float) -> float | None:
    waits = [seconds for seconds in (remaining, beat or None) if seconds is not None]
    return max(0.0, min(waits)) if waits else None
