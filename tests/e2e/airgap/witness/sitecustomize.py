"""Writes down where each Python process of a federation would connect to; imported by Python itself where this folder is on its path."""

import json
import os
import sys
from typing import Any

_WRITES = os.open(os.environ["AIRGAP_WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def _write(kind: str, told: Any) -> None:
    os.write(_WRITES, (json.dumps([os.getpid(), kind, told], default=str) + "\n").encode())


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    # A process that was forked from one that had started.
    if event == "federation.fork":
        _write("start", arguments[0])
    # Sockets of Unix and of the kernel have addresses of other kinds, or none.
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"} and isinstance(address := arguments[1], tuple):
        _write(event, list(address))


_write("start", sys.orig_argv)
sys.addaudithook(_hear)
