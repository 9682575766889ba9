"""Opens a socket to ActiveMQ, with or without TLS, and speaks the first words; refuses whoever does not answer in STOMP in time."""

import select
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from federation.broker.errors import AccessRefused, ConnectionLost, NotStomp, ProtocolError
from federation.broker.frames import Decoder, Frame, encode

# What ActiveMQ writes when the login fails; it has no code of its own for that.
_LOGIN_FAILED = ("user name", "password", "security", "not authorized", "authentication")


@dataclass(frozen=True, slots=True)
class Address:
    """Where ActiveMQ listens, who we are, and how to speak: `tls` is None, True, or the arguments of kombu's `ssl=`."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    tls: Mapping[str, Any] | bool | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Dialed:
    """An open socket, non-blocking, after CONNECTED; the heart-beats are the agreed seconds between two of them, 0 for none."""

    sock: socket.socket
    decoder: Decoder
    early: list[Frame]
    beat_out_s: float
    beat_in_s: float


def _tls_context(tls: Mapping[str, Any] | bool) -> tuple[ssl.SSLContext, str | None]:
    given = {} if isinstance(tls, bool) else dict(tls)
    context = ssl.create_default_context(cafile=given.get("ca_certs"))
    if given.get("certfile"):
        context.load_cert_chain(given["certfile"], given.get("keyfile"), given.get("password"))
    if given.get("cert_reqs") == ssl.CERT_NONE:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context, given.get("server_hostname")


def _open(address: Address, timeout_s: float) -> socket.socket:
    try:
        sock = socket.create_connection((address.host, address.port), timeout_s)
    except OSError as error:
        raise ConnectionLost(f"cannot connect to {address}: {error}; is ActiveMQ running there?") from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.tls:
            context, name = _tls_context(address.tls)
            sock = context.wrap_socket(sock, server_hostname=name or address.host)
    except ssl.SSLError as error:
        sock.close()
        raise NotStomp(str(address), f"TLS failed: {error}") from error
    except OSError as error:
        sock.close()
        raise ConnectionLost(f"{address} closed the connection during the handshake: {error}") from error
    return sock


def _first_frames(sock: socket.socket, decoder: Decoder, address: Address, timeout_s: float) -> list[Frame]:
    deadline = monotonic() + timeout_s
    while True:
        remaining = deadline - monotonic()
        if remaining <= 0:
            raise ConnectionLost(f"{address} accepted the connection and said nothing for {timeout_s:g} s; is it ActiveMQ's `stomp` connector?")
        sock.settimeout(remaining)
        try:
            data = sock.recv(65536)
        except TimeoutError:
            continue
        except OSError as error:
            raise ConnectionLost(f"{address} closed the connection during the handshake: {error}") from error
        if not data:
            # Not a word yet: a network or a broker that ends just now does that too, so it is worth another try.
            raise ConnectionLost(f"{address} closed the connection during the handshake; is it ActiveMQ's `stomp` connector?")
        try:
            frames = decoder.feed(data)
        except ProtocolError as error:
            raise NotStomp(str(address), str(error)) from error
        if frames:
            return frames


def _agreed(answer: str, wanted_ms: int) -> tuple[float, float]:
    """Return seconds between heart-beats out and in (STOMP 1.2, «Heart-beating»)."""
    theirs_out, _, theirs_in = answer.partition(",")
    can_send, wants = int(theirs_out or 0), int(theirs_in or 0)
    beat_out = max(wanted_ms, wants) if wanted_ms and wants else 0
    beat_in = max(wanted_ms, can_send) if wanted_ms and can_send else 0
    return beat_out / 1000, beat_in / 1000


def _log_in(sock: socket.socket, decoder: Decoder, address: Address, timeout_s: float, heartbeat_ms: int) -> tuple[Frame, list[Frame]]:
    headers = {"accept-version": "1.2", "host": address.host, "heart-beat": f"{heartbeat_ms},{heartbeat_ms}"}
    if address.user:
        headers |= {"login": address.user, "passcode": address.password}
    sock.settimeout(timeout_s)
    try:
        sock.sendall(encode("CONNECT", headers))
    except OSError as error:
        raise ConnectionLost(f"{address} closed the connection during the handshake: {error}") from error
    first, *early = _first_frames(sock, decoder, address, timeout_s)
    if first.command == "ERROR":
        reason = first.headers.get("message") or first.body.decode(errors="replace").partition("\n")[0]
        if any(word in reason.lower() for word in _LOGIN_FAILED):
            raise AccessRefused(str(address), address.user, reason)
        raise ConnectionLost(f"{address} refused the connection: {reason}")
    if first.command != "CONNECTED":
        raise NotStomp(str(address), f"it answered {first.command}")
    return first, early


def dial(address: Address, *, timeout_s: float, heartbeat_s: float, max_frame_bytes: int) -> Dialed:
    """Connect and log in.

    Raises ConnectionLost, AccessRefused or NotStomp within about `timeout_s` seconds.
    """
    heartbeat_ms = int(heartbeat_s * 1000)
    decoder = Decoder(max_frame_bytes)
    sock = _open(address, timeout_s)
    try:
        connected, early = _log_in(sock, decoder, address, timeout_s, heartbeat_ms)
        sock.setblocking(False)
        return Dialed(sock, decoder, early, *_agreed(connected.headers.get("heart-beat", "0,0"), heartbeat_ms))
    except BaseException:
        sock.close()
        raise


def wait_until_ready(sock: socket.socket, events: int, timeout_s: float | None) -> int:
    """Wait for poll events on a socket and return those that came; 0 after `timeout_s` seconds."""
    poller = select.poll()
    poller.register(sock, events)
    ready = poller.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000)
    return ready[0][1] if ready else 0
