"""What can go wrong between us and ActiveMQ; a root of its own, because this room imports nothing of ours."""

from collections.abc import Sequence

WHERE_OPTIONS_ARE = "all are told on the page of the broker transport, under Options, and by help(federation.broker.options.Options)"


class BrokerError(Exception):
    """Root of the transport's errors; its text says what to do next.

    What an error was made of is its `args`, so that pickle and Celery's results can make it again in another process.
    """

    def __init__(self, text: str = "", *given: object) -> None:
        super().__init__(text)
        self._text = text
        if given:
            self.args = given

    def __str__(self) -> str:
        return self._text


class ConnectionLost(BrokerError, ConnectionError):
    """The connection is gone or was never there; connecting again may help."""


class ConfirmationMissing(ConnectionLost):
    """No receipt came in time: the message may or may not be in the broker, so sending it again may double it."""

    def __init__(self, seconds: float, address: str) -> None:
        self.seconds, self.address = seconds, address
        super().__init__(
            f"{address} sent no receipt within {seconds:g} s; the message may be stored or not: send it again with the same id",
            seconds,
            address,
        )


class AccessRefused(BrokerError, PermissionError):
    """ActiveMQ refused the user or the password; connecting again with the same will not help."""

    def __init__(self, address: str, user: str, reason: str) -> None:
        self.address, self.user, self.reason = address, user, reason
        super().__init__(
            f"{address} refuses user {user!r}: {reason}; check user and password in the broker URL",
            address,
            user,
            reason,
        )


class NotStomp(BrokerError, ConnectionError):
    """Whoever listens there does not speak STOMP."""

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(
            f"{address} does not answer in STOMP ({reason}); point the broker URL at ActiveMQ's `stomp` connector, mostly port 61613",
            address,
            reason,
        )


class OtherBroker(NotStomp):
    """Whoever listens there speaks STOMP, and is not ActiveMQ Classic, of whose ways much is used here."""

    def __init__(self, address: str, server: str) -> None:
        self.address, self.server = address, server
        BrokerError.__init__(
            self,
            f"{address} is {server}, and this transport is for ActiveMQ Classic alone; point the broker URL at one",
            address,
            server,
        )


class TlsFailed(BrokerError, ConnectionError):
    """The TLS handshake failed: one side does not trust the other, or does not speak TLS."""

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(
            f"no TLS with {address}: {reason}; compare ca_certs, certfile and keyfile of broker_use_ssl with the connector's key and trust stores, "
            "and the URL's host with the names in the broker's certificate",
            address,
            reason,
        )


class TlsMisconfigured(BrokerError, ValueError):
    """What `broker_use_ssl` or the URL says of TLS cannot be used; connecting again will not help."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"broker_use_ssl: {reason}",
            reason,
        )


class ProtocolError(BrokerError, ValueError):
    """Bytes that are no STOMP 1.2 frame; the connection that brought them must be closed."""


class RequestRefused(BrokerError):
    """ActiveMQ answered one request with ERROR, for example because the user may not read or write that destination."""

    def __init__(self, reason: str, details: str) -> None:
        self.reason, self.details = reason, details
        super().__init__(
            f"ActiveMQ refused a request: {reason}; look at the user's rights for that destination and at the broker's log",
            reason,
            details,
        )


class MessageTooLarge(BrokerError, ValueError):
    """The message is larger than the broker's maxFrameSize, and was not sent."""

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(
            f"a message of {size} bytes was not sent: the limit is {limit}; send a reference instead, or raise the connector's "
            "wireFormat.maxFrameSize and the transport option max_frame_size together",
            size,
            limit,
        )


class HeaderRefused(BrokerError, ValueError):
    """A header that a sender asked for cannot be sent; the message was not."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(
            f"the message was not sent: its STOMP header {name[:80]!r} is refused: {reason}",
            name,
            reason,
        )


class NameRefused(BrokerError, ValueError):
    """ActiveMQ cannot have a queue, an exchange or an event of that name; nothing was sent."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"the name {name[:40]!r}{'…' if len(name) > 40 else ''} is refused: {reason}", name, reason)


class Unroutable(BrokerError, LookupError):
    """No queue is bound there, as far as this connection knows; the message was not sent."""

    def __init__(self, exchange: str, routing_key: str) -> None:
        self.exchange, self.routing_key = exchange, routing_key
        super().__init__(
            f"no queue is bound to exchange {exchange!r} for {routing_key!r} that this connection knows of, so it was not sent: bindings are "
            "the client's; declare the queue here too (Celery: send with queue=… or declare=[…]), or, where whoever listens may have a copy of "
            "their own, name a topic exchange in the transport option event_exchanges",
            exchange,
            routing_key,
        )


class OptionRefused(BrokerError, ValueError):
    """A transport option cannot have that value."""

    def __init__(self, name: str, value: object, wanted: str) -> None:
        self.name, self.value, self.wanted = name, value, wanted
        super().__init__(f"transport option {name}: got {value!r}; it must be {wanted}", name, value, wanted)


class OptionUnknown(BrokerError, LookupError):
    """There is no transport option of that name, and one so much alike that it must be meant."""

    def __init__(self, name: str, near: str) -> None:
        self.name, self.near = name, near
        super().__init__(f"transport option {name} is not known; is {near} meant? {WHERE_OPTIONS_ARE}", name, near)


class ArgumentRefused(BrokerError, ValueError):
    """A consumer argument is unknown or makes no sense; nothing was subscribed to."""

    def __init__(self, name: str, value: object, reason: str) -> None:
        self.name, self.value, self.reason = name, value, reason
        super().__init__(
            f"the argument {name}={value!r} is refused: {reason}",
            name,
            value,
            reason,
        )


class NoDeadLetterQueue(BrokerError, LookupError):
    """It is not known where the dead letters of a queue are, or they are not there alone."""


class QueueUnknown(BrokerError, LookupError):
    """The broker has neither a queue of that name nor dead letters of it."""

    def __init__(self, queue: str, nearest: Sequence[str]) -> None:
        self.queue, self.nearest = queue, tuple(nearest)
        near = f"the nearest are {', '.join(map(repr, nearest))}" if nearest else "none that it knows is like it"
        super().__init__(
            f"ActiveMQ knows neither a queue {queue!r} nor dead letters of it; {near}; it forgets a queue that stays empty and unused",
            queue,
            self.nearest,
        )


class StatisticsMissing(BrokerError):
    """ActiveMQ cannot tell the size of a queue."""

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(
            f"{address} does not tell queue sizes ({reason}); add <statisticsBrokerPlugin/> to activemq.xml and "
            "put the jars xstream, jettison and xpp3 into ActiveMQ's lib/optional",
            address,
            reason,
        )


class StatisticsSilent(StatisticsMissing):
    """ActiveMQ has not told the size of a queue in time; it may be able to, and the next question goes to it again."""

    def __init__(self, address: str, reason: str) -> None:
        BrokerError.__init__(self, f"{address} has not told queue sizes ({reason}); ask again when it answers", address, reason)
        self.address, self.reason = address, reason
