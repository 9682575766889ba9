"""What can go wrong between us and ActiveMQ; a root of its own, because this room imports nothing of ours."""


class BrokerError(Exception):
    """Root of the transport's errors; its text says what to do next."""


class ConnectionLost(BrokerError, ConnectionError):
    """The connection is gone or was never there; connecting again may help."""


class ConfirmationMissing(ConnectionLost):
    """No receipt came in time: the message may or may not be in the broker, so sending it again may double it."""

    def __init__(self, seconds: float, address: str) -> None:
        self.seconds, self.address = seconds, address
        super().__init__(f"{address} sent no receipt within {seconds:g} s; the message may be stored or not: send it again with the same id")


class AccessRefused(BrokerError, PermissionError):
    """ActiveMQ refused the user or the password; connecting again with the same will not help."""

    def __init__(self, address: str, user: str, reason: str) -> None:
        self.address, self.user, self.reason = address, user, reason
        super().__init__(f"{address} refuses user {user!r}: {reason}; check user and password in the broker URL")


class NotStomp(BrokerError, ConnectionError):
    """Whoever listens there does not speak STOMP."""

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(f"{address} does not answer in STOMP ({reason}); point the broker URL at ActiveMQ's `stomp` connector, mostly port 61613")


class TlsFailed(BrokerError, ConnectionError):
    """The TLS handshake failed: one side does not trust the other, or does not speak TLS."""

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(
            f"no TLS with {address}: {reason}; compare ca_certs, certfile and keyfile of broker_use_ssl with the connector's key and trust stores, "
            "and the URL's host with the names in the broker's certificate"
        )


class TlsMisconfigured(BrokerError, ValueError):
    """What `broker_use_ssl` or the URL says of TLS cannot be used; connecting again will not help."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"broker_use_ssl: {reason}")


class ProtocolError(BrokerError, ValueError):
    """Bytes that are no STOMP 1.2 frame; the connection that brought them must be closed."""


class RequestRefused(BrokerError):
    """ActiveMQ answered one request with ERROR, for example because the user may not read or write that destination."""

    def __init__(self, reason: str, details: str) -> None:
        self.reason, self.details = reason, details
        super().__init__(f"ActiveMQ refused a request: {reason}; look at the user's rights for that destination and at the broker's log")


class MessageTooLarge(BrokerError, ValueError):
    """The message is larger than the broker's maxFrameSize, and was not sent."""

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(
            f"a message of {size} bytes was not sent: the limit is {limit}; send a reference instead, or raise the connector's "
            "wireFormat.maxFrameSize and the transport option max_frame_size together"
        )


class HeaderRefused(BrokerError, ValueError):
    """A header that a sender asked for cannot be sent; the message was not."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"the message was not sent: its STOMP header {name[:80]!r} is refused: {reason}")


class NameTooLong(BrokerError, ValueError):
    """The name of a queue, exchange or event is longer than ActiveMQ takes."""

    def __init__(self, name: str, limit: int) -> None:
        self.name, self.limit = name, limit
        super().__init__(f"the name {name[:40]!r}… is too long: percent-encoded it may have {limit} bytes; choose a shorter one")


class ArgumentRefused(BrokerError, ValueError):
    """A consumer argument is unknown or makes no sense; nothing was subscribed to."""

    def __init__(self, name: str, value: object, reason: str) -> None:
        self.name, self.value, self.reason = name, value, reason
        super().__init__(f"consumer_arguments: {name}={value!r} is refused: {reason}")


class NoDeadLetterQueue(BrokerError, LookupError):
    """It is not known where the dead letters of a queue are, or they are not there alone."""


class StatisticsMissing(BrokerError):
    """ActiveMQ cannot tell the size of a queue."""

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(
            f"{address} does not tell queue sizes ({reason}); add <statisticsBrokerPlugin/> to activemq.xml and "
            "put the jars xstream, jettison and xpp3 into ActiveMQ's lib/optional"
        )
