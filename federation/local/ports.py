"""Free ports, promised to one federation each; opens none for longer than the look takes, but for `listen`."""

import errno
import random
import socket
import time
from pathlib import Path

from federation.errors import LocalServiceError, SettingsError

LOOPBACK = "127.0.0.1"
_GIVEN_TO_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST, _LAST, _ENOUGH = 10_000, 65_535, 1_000
_OTHERS_END_WITHIN_S, _LOOK_AGAIN_S = 2.0, 0.02
# Who may wait to be accepted.
_BACKLOG = 2048

_promised: dict[int, socket.socket] = {}


def listen(host: str, port: int, *, shared: bool = False, whose: str = "MCP") -> socket.socket:
    """Return a socket that listens where FEDERATION_<whose>_HOST and _PORT say; among `shared` ones the kernel spreads connections evenly.

    Raises SettingsError for a host that is not this machine's, LocalServiceError for a port that cannot be had.
    """
    try:
        socket.getaddrinfo(host, port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise SettingsError(
                f"FEDERATION_{whose}_HOST: got {host!r}, wants an address of this machine, such as {LOOPBACK}, or 0.0.0.0 for all of them"
            ) from error
        raise LocalServiceError(
            f"FEDERATION_{whose}_PORT: got {port}, which cannot be had on {host} ({str(error.strerror).partition(' (')[0]}); wants a free port"
        ) from error
    # For what it accepts: asyncio knows a socket that it was given not for one of TCP, and an answer of two parts would wait 40 ms for the
    # acknowledgement of the first (Nagle's algorithm and delayed acknowledgements, RFC 1122).
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def listen_shared(host: str, port: int, count: int) -> list[socket.socket]:
    """Return as many sockets, one for each process of a server, at a port that nobody else has. Raises as `listen`.

    Processes of a server that was killed end a moment after it, and hold the port until then: it is asked for again for a while.
    """
    deadline = time.monotonic() + _OTHERS_END_WITHIN_S
    while True:
        try:
            listen(host, port).close()
            break
        except LocalServiceError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_AGAIN_S)
    return [listen(host, port, shared=True) for _ in range(count)]


def is_free(port: int, host: str = LOOPBACK, *, whose: str = "MCP") -> bool:
    """Say whether a server could bind the port now. Raises SettingsError for a host that is not this machine's."""
    try:
        listen(host, port, whose=whose).close()
    except LocalServiceError:
        return False
    return True


def free_port() -> int:
    """Return a port on loopback that nobody has or was promised, and that the system gives to no connection: what listens starts later."""
    first_given = int(_GIVEN_TO_CONNECTIONS.read_text().split()[0])
    candidates = range(_FIRST, first_given) if first_given > _FIRST + _ENOUGH else range(_FIRST, _LAST + 1)
    while True:
        port = random.choice(candidates)  # noqa: S311 - no secret hangs on it
        if is_free(port) and (sign := _sign(port)) is not None:
            sign.close()
            return port


def keep_or_choose(port: int | None, host: str = LOOPBACK, *, whose: str = "MCP") -> int:
    """Return the port if it is free on the host, else another one; until this process ends, no other federation here chooses it.

    Raises SettingsError for a host that is not this machine's.
    """
    if port is not None and is_free(port, host, whose=whose) and _promise(port):
        return port
    while not _promise(chosen := free_port()):
        pass
    return chosen


def promise(port: int) -> str:
    """Return the abstract name of a socket that says that a federation here has chosen the port."""
    return f"\0federation.port.{port}"


def _promise(port: int) -> bool:
    """Say whether the port is ours. What is to listen there starts later, and another federation may look meanwhile."""
    if port in _promised:
        return True
    sign = _sign(port)
    if sign is None:
        return False
    _promised[port] = sign
    return True


def _sign(port: int) -> socket.socket | None:
    """Return the sign that a port is promised, which lasts until it is closed or its process ends; None if another one stands."""
    # An abstract name is known where the port is: in this network namespace.
    sign = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sign.bind(promise(port))
    except OSError as error:
        sign.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return sign
