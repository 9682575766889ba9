"""Opens a socket to ActiveMQ, with or without TLS, and speaks the first words; refuses whoever does not answer in STOMP in time."""

import select
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from federation.broker.errors import AccessRefused, ConnectionLost, NotStomp, OtherBroker, ProtocolError, TlsFailed
from federation.broker.frames import Decoder, Frame, encode, escape
from federation.broker.tls import secure

_VERSION = "1.2"
# What ActiveMQ Classic calls itself, before its version; Artemis says ActiveMQ-Artemis.
_SERVER = "ActiveMQ/"
# What ActiveMQ writes when the login fails; it has no code of its own for that.
_LOGIN_FAILED = ("user name", "password", "security", "not authorized", "authentication")

# The first bytes of a TLS alert: what a connector with TLS answers to a CONNECT in the clear.
_TLS_ALERT = b"\x15\x03"


@dataclass(frozen=True, slots=True)
class Address:
    """Where ActiveMQ listens, who we are, and how to speak: `tls` is None, True, or what kombu's `ssl=` says."""

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


def _open(address: Address, deadline: float) -> socket.socket:
    try:
        sock = _reach(address, deadline)
    except OSError as error:
        raise ConnectionLost(f"cannot connect to {address}: {error}; is ActiveMQ running there?") from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.tls:
            sock.settimeout(_remaining(deadline))
            return secure(sock, address.host, str(address), address.tls)
    except BaseException:
        sock.close()
        raise
    return sock


def _reach(address: Address, deadline: float) -> socket.socket:
    """Connect to the first of a host's addresses that answers; each gets an equal part of the time that is left, so that a dead one leaves some.

    `socket.create_connection` would give each of them all of it. How long the system takes to resolve the name is not bounded.
    """
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for left, (family, kind, protocol, _, at) in zip(range(len(found), 0, -1), found, strict=True):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            # A family that this machine does not speak.
            failure = error
            continue
        try:
            sock.settimeout(_remaining(deadline) / left)
            sock.connect(at)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError("the host has no address")


def _remaining(deadline: float) -> float:
    # Zero would mean «do not wait», which is another error.
    return max(0.001, deadline - monotonic())


def _cut(address: Address, error: OSError | None = None) -> ConnectionLost | TlsFailed:
    if isinstance(error, ssl.SSLError) and error.reason and "ALERT" in error.reason:
        # In TLS 1.3 the broker looks at our certificate after our side of the handshake is done.
        return TlsFailed(str(address), f"the broker refuses us ({error.reason})")
    said = f" ({error})" if error else ""
    plain = "is it ActiveMQ's `stomp` connector, or one for TLS (`activemqs://`), and has it room for more?"
    question = _secure_question(address.tls) if address.tls else plain
    return ConnectionLost(f"{address} closed the connection before it was set up{said}; {question}")


def _secure_question(tls: Mapping[str, Any] | bool) -> str:
    # Some connectors, `nio` among them, only close where others say what is wrong.
    if isinstance(tls, Mapping) and tls.get("certfile"):
        return "does it trust who signed our client certificate, and is that not expired?"
    return "does that connector want a client certificate?"


def _first_frames(sock: socket.socket, decoder: Decoder, address: Address, deadline: float) -> list[Frame]:
    # A peer that sends nothing but line ends sends no frame either.
    while monotonic() < deadline:
        sock.settimeout(_remaining(deadline))
        try:
            data = sock.recv(65536)
        except TimeoutError:
            break
        except OSError as error:
            raise _cut(address, error) from error
        if not data:
            raise _cut(address)
        try:
            frames = decoder.feed(data)
        except ProtocolError as error:
            hint = "; it may want TLS: `activemqs://`" if data.startswith(_TLS_ALERT) else ""
            raise NotStomp(str(address), f"{error}{hint}") from error
        if frames:
            return frames
    raise ConnectionLost(f"{address} accepted the connection and said nothing in time; is it ActiveMQ's `stomp` connector?")


def _agreed(answer: str, wanted_ms: int) -> tuple[float, float]:
    """Return seconds between heart-beats out and in (STOMP 1.2, «Heart-beating»)."""
    theirs_out, _, theirs_in = answer.partition(",")
    try:
        can_send, wants = int(theirs_out or 0), int(theirs_in or 0)
    except ValueError:
        raise ProtocolError(f"heart-beat {answer[:40]!r} is no pair of numbers") from None
    beat_out = max(wanted_ms, wants) if wanted_ms and wants else 0
    beat_in = max(wanted_ms, can_send) if wanted_ms and can_send else 0
    return beat_out / 1000, beat_in / 1000


def login(address: Address, beat_out_ms: int, beat_in_ms: int) -> bytes:
    """Return the frame that says who we are, and how many milliseconds may lie between two heart-beats, out and in, 0 for any number."""
    headers = {"accept-version": _VERSION, "host": address.host, "heart-beat": f"{beat_out_ms},{beat_in_ms}"}
    if address.user:
        # STOMP 1.2 escapes nothing in CONNECT, but ActiveMQ unescapes there too; and so no line end can begin a header of its own.
        headers |= {"login": escape(address.user), "passcode": escape(address.password)}
    return encode("CONNECT", headers)


def _log_in(sock: socket.socket, decoder: Decoder, address: Address, deadline: float, said: bytes) -> tuple[Frame, list[Frame]]:
    sock.settimeout(_remaining(deadline))
    try:
        sock.sendall(said)
    except OSError as error:
        raise _cut(address, error) from error
    first, *early = _first_frames(sock, decoder, address, deadline)
    if first.command == "ERROR":
        reason = first.headers.get("message") or first.body.decode(errors="replace").partition("\n")[0]
        if any(word in reason.lower() for word in _LOGIN_FAILED):
            raise AccessRefused(str(address), address.user, reason)
        raise ConnectionLost(f"{address} refused the connection: {reason}")
    if first.command != "CONNECTED":
        raise NotStomp(str(address), f"it answered {first.command}")
    # A server of STOMP 1.0 need not say which version it speaks.
    if (version := first.headers.get("version", "1.0")) != _VERSION:
        raise NotStomp(str(address), f"it speaks version {version}, and this transport {_VERSION}")
    # The header may be left out, by a broker that was told to keep its version to itself, or by what stands between.
    if not (server := first.headers.get("server", _SERVER)).startswith(_SERVER):
        raise OtherBroker(str(address), server)
    return first, early


def dial(address: Address, *, timeout_s: float, heartbeat_s: float, max_frame_bytes: int) -> Dialed:
    """Connect and log in.

    Raises ConnectionLost, AccessRefused, NotStomp or TlsFailed within about `timeout_s` seconds; TlsMisconfigured.
    """
    deadline = monotonic() + timeout_s
    heartbeat_ms = int(heartbeat_s * 1000)
    decoder = Decoder(max_frame_bytes)
    said = login(address, heartbeat_ms, heartbeat_ms)
    sock = _open(address, deadline)
    try:
        connected, early = _log_in(sock, decoder, address, deadline, said)
        beats = _agreed(connected.headers.get("heart-beat", "0,0"), heartbeat_ms)
        sock.setblocking(False)
        return Dialed(sock, decoder, early, *beats)
    except ProtocolError as error:
        sock.close()
        raise NotStomp(str(address), str(error)) from error
    except BaseException:
        sock.close()
        raise


def wait_until_ready(sock: socket.socket, events: int, timeout_s: float | None) -> int:
    """Wait for poll events on a socket and return those that came; 0 after `timeout_s` seconds."""
    poller = select.poll()
    try:
        poller.register(sock, events)
    except ValueError:
        # Closed meanwhile by another thread: the next call on it says so.
        return events
    ready = poller.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000)
    return ready[0][1] if ready else 0
