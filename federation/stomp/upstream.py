"""The way to ActiveMQ: who we are there, and the first words; what is said over it then is none of its business."""

import asyncio
import logging
import ssl
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from federation.broker.dialing import Address, login
from federation.broker.errors import ProtocolError, TlsMisconfigured
from federation.broker.frames import Decoder, Frame
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


class Upstream:
    """ActiveMQ, at the first address where it answers."""

    def __init__(self, url: str) -> None:
        """`url` may be several, separated by semicolons. Raises SettingsError."""
        self._ways = [_Way.to(one) for one in url.split(";")]

    async def open(self, beats: tuple[int, int]) -> Opened:
        """Connect and log in, with a client's heart-beats. Raises BrokerUnavailable."""
        problem: Exception | None = None
        for way in self._ways:
            try:
                return await way.open(beats)
            except (OSError, ProtocolError, TimeoutError) as error:
                logger.warning("stomp.broker_away broker=%s reason=%s", way.address, error or "no answer in time")
                problem = error
        raise BrokerUnavailable("ActiveMQ cannot be reached now; connect again in a while") from problem


@dataclass(frozen=True, slots=True)
class _Way:
    """An ActiveMQ and as whom this door speaks to it, with what is read once for TLS."""

    address: Address
    context: ssl.SSLContext | None
    server_name: str | None

    @staticmethod
    def to(url: str) -> "_Way":
        """Return the way to an ActiveMQ. Raises SettingsError."""
        parts = urlsplit(url)
        asked = {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
        tls = (asked or True) if parts.scheme == "activemqs" else None
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        address = Address(parts.hostname or "localhost", parts.port or _PORTS[parts.scheme], user, password, tls)
        if tls is None:
            return _Way(address, None, None)
        try:
            context, name = tls_context(tls)
        except TlsMisconfigured as error:
            raise SettingsError(f"{variable('broker_url')}: {error}") from error
        return _Way(address, context, name or address.host)

    async def open(self, beats: tuple[int, int]) -> Opened:
        """Connect and log in. Raises BrokerUnavailable, OSError, ProtocolError, TimeoutError."""
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            reader, writer = await asyncio.open_connection(self.address.host, self.address.port, ssl=self.context, server_hostname=self.server_name)
            try:
                return await self._logged_in(reader, writer, beats)
            except BaseException:
                writer.transport.abort()
                raise

    async def _logged_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, beats: tuple[int, int]) -> Opened:
        writer.write(login(self.address, *beats))
        decoder = Decoder()
        while data := await reader.read(CHUNK_BYTES):
            if frames := decoder.feed(data):
                first, *early = frames
                if first.command == "CONNECTED":
                    return Opened(reader, writer, decoder, first.headers.get("heart-beat", "0,0"), early)
                logger.error("stomp.not_taken broker=%s reason=%s", self.address, first.headers.get("message", first.command))
                raise BrokerUnavailable("ActiveMQ does not take this door; the operator finds in its log why")
        raise ConnectionResetError("it has ended the connection")
