"""The way to ActiveMQ: who we are there, and the first words; what is said over it then is none of its business."""

import asyncio
import logging
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from federation.broker.errors import ProtocolError, TlsMisconfigured
from federation.broker.frames import Decoder, Frame, encode, escape
from federation.broker.tls import tls_context
from federation.errors import BrokerUnavailable, SettingsError
from federation.settings import variable

logger = logging.getLogger(__name__)

ANSWERS_WITHIN_S = 10.0
CHUNK_BYTES = 64 * 1024
_PORTS = {"activemq": 61613, "activemqs": 61614}


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection to ActiveMQ that has been taken, with what came after its answer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    decoder: Decoder
    beats: str
    early: list[Frame]


@dataclass(frozen=True, slots=True)
class Address:
    """An ActiveMQ, and as whom this door speaks to it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    context: ssl.SSLContext | None = None
    server_name: str | None = None

    async def open(self, beats: tuple[int, int]) -> Opened:
        """Connect and log in. Raises BrokerUnavailable, OSError, ProtocolError, TimeoutError."""
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            name = (self.server_name or self.host) if self.context else None
            reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.context, server_hostname=name)
            try:
                return await self._logged_in(reader, writer, beats)
            except BaseException:
                writer.transport.abort()
                raise

    async def _logged_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, beats: tuple[int, int]) -> Opened:
        # ActiveMQ unescapes in CONNECT too, which STOMP 1.2 does not.
        headers = {"accept-version": "1.2", "host": self.host, "login": escape(self.user), "passcode": escape(self.password)}
        writer.write(encode("CONNECT", {**headers, "heart-beat": f"{beats[0]},{beats[1]}"}))
        decoder = Decoder()
        while data := await reader.read(CHUNK_BYTES):
            if frames := decoder.feed(data):
                first, *early = frames
                if first.command == "CONNECTED":
                    return Opened(reader, writer, decoder, first.headers.get("heart-beat", "0,0"), early)
                logger.error("stomp.not_taken broker=%s:%d reason=%s", self.host, self.port, first.headers.get("message", first.command))
                raise BrokerUnavailable("ActiveMQ does not take this door; the operator finds in its log why")
        raise ConnectionResetError("it has ended the connection")


class Upstream:
    """ActiveMQ, at the first address where it answers."""

    def __init__(self, url: str) -> None:
        """`url` may be several, separated by semicolons. Raises SettingsError."""
        self._addresses = [_address(one) for one in url.split(";")]

    async def open(self, beats: tuple[int, int]) -> Opened:
        """Connect and log in, with a client's heart-beats. Raises BrokerUnavailable."""
        problem: Exception | None = None
        for address in self._addresses:
            try:
                return await address.open(beats)
            except (OSError, ProtocolError, TimeoutError) as error:
                logger.warning("stomp.broker_away broker=%s:%d reason=%s", address.host, address.port, error or "no answer in time")
                problem = error
        raise BrokerUnavailable("ActiveMQ cannot be reached now; connect again in a while") from problem


def _address(url: str) -> Address:
    parts = urlsplit(url)
    context = server_name = None
    if parts.scheme == "activemqs":
        try:
            context, server_name = tls_context({name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")})
        except TlsMisconfigured as error:
            raise SettingsError(f"{variable('broker_url')}: {error}") from error
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Address(parts.hostname or "localhost", parts.port or _PORTS[parts.scheme], user, password, context, server_name)
