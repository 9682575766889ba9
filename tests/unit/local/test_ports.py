"""Ports and the sockets on them."""

import socket

import pytest

from federation.local.ports import free_port, listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_is_accepted_sends_each_part_of_an_answer_at_once(host: str) -> None:
    with listen(host, free_port()) as listening, socket.create_connection(listening.getsockname()[:2]) as client:
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.recv(1) == b""
