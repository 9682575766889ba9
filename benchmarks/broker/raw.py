"""The least that a Python program can do to consume and acknowledge over STOMP: what our transport is measured against, and no client for use."""

import socket
import time
from urllib.parse import urlsplit

from benchmarks.broker.cells import PREFETCH

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
_READ_BYTES = 1 << 18


def consume_raw(url: str, queue: str, count: int) -> float:
    """Return messages a second; bodies must hold no NUL."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname or "", at.port or 0)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(f"CONNECT\naccept-version:1.2\nhost:{at.hostname}\nlogin:{at.username}\npasscode:{at.password}\n\n\0".encode())
        connection.recv(_READ_BYTES)
        began = time.perf_counter()
        headers = f"id:1\ndestination:/queue/{queue}\nack:client-individual\nactivemq.prefetchSize:{PREFETCH}"
        connection.sendall(f"SUBSCRIBE\n{headers}\n\n\0".encode())
        left, rest = count, b""
        while left:
            if _QUICKACK is not None:
                connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            *frames, rest = (rest + connection.recv(_READ_BYTES)).split(b"\0")
            for frame in frames:
                start = frame.index(b"\nack:") + len(b"\nack:")
                connection.sendall(b"ACK\nid:" + frame[start : frame.index(b"\n", start)] + b"\n\n\0")
            left -= len(frames)
        return count / (time.perf_counter() - began)
