"""Runs a command on a machine without a network: `namespace.py COMMAND …` gives it a network namespace with loopback and nothing else.

Root and, where the kernel lets them have user namespaces, ordinary users; status 77 where it does not. The process and its children have no
way out: what they send to anything but this machine fails at once, and the kernel counts it (OutNoRoutes).
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

NOT_HERE = 77
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_libc = ctypes.CDLL(None, use_errno=True)


def leave_the_network() -> None:
    """Move this process into a namespace of its own, in which loopback alone is up. Raises OSError where the system does not let us."""
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_NEW_NETWORK if user == 0 else _NEW_NETWORK | _NEW_USER):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if user != 0:
        # The same user as before inside, and with the right to set up the network until the next program is started.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sh14x", b"lo", 0))
        _, flags = struct.unpack("16sh14x", asked)
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


if __name__ == "__main__":
    try:
        leave_the_network()
    except OSError as error:
        sys.stderr.write(f"this system gives no network namespace to user {os.geteuid()}: {error}\n")
        sys.exit(NOT_HERE)
    interfaces = ", ".join(name for _, name in socket.if_nameindex())
    sys.stderr.write(f"Without a network from here on: the interfaces are {interfaces}. Running: {' '.join(sys.argv[1:])}\n")
    os.execvp(sys.argv[1], sys.argv[1:])
