"""Ports and the sockets on them."""

import random
import socket
import threading

import pytest

from federation.errors import LocalServiceError
from federation.local.ports import LOOPBACK, free_port, keep_or_choose, listen, listen_shared


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_is_accepted_sends_each_part_of_an_answer_at_once(host: str) -> None:
    with listen(host, free_port()) as listening, socket.create_connection(listening.getsockname()[:2]) as client:
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.recv(1) == b""


def test_a_port_that_ending_processes_still_hold_is_waited_for() -> None:
    port = free_port()
    held = [listen(LOOPBACK, port, shared=True) for _ in range(2)]
    threading.Timer(0.3, lambda: [each.close() for each in held]).start()
    ours = listen_shared(LOOPBACK, port, 2)
    assert [each.getsockname()[1] for each in ours] == [port, port]
    for each in ours:
        each.close()


def test_a_port_that_another_keeps_is_refused() -> None:
    with listen(LOOPBACK, port := free_port(), shared=True), pytest.raises(LocalServiceError, match=f"got {port}, which cannot be had"):
        listen_shared(LOOPBACK, port, 2)


def test_a_port_that_a_federation_was_promised_is_given_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    promised, free = keep_or_choose(None), free_port()
    drawn = iter((promised, promised, free))
    monkeypatch.setattr(random, "choice", lambda _: next(drawn))
    assert free_port() == free
