"""Waits for what NOTIFY tells; psycopg's own wait wakes ten times a second to look for signals, and this one when something comes."""

import select
from typing import Any

import psycopg


def wait_for_notices(connection: psycopg.Connection[Any], timeout_s: float) -> list[str]:
    """Return the payloads that came on the channels this connection listens to; none after `timeout_s` seconds.

    Raises psycopg.OperationalError when the connection is lost.
    """
    told = _told(connection)
    if not told and timeout_s > 0:
        # Not select: it takes no file above 1023.
        line = select.poll()
        line.register(connection.fileno(), select.POLLIN)
        if line.poll(timeout_s * 1000):
            told = _told(connection)
    return told


def _told(connection: psycopg.Connection[Any]) -> list[str]:
    return [note.payload for note in connection.notifies(timeout=0)]
