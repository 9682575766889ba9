"""Merkle trees over lines of text, as RFC 9162 (2.1) defines them; holds nothing but hashes."""

from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32
_LEAF, _NODE = b"\x00", b"\x01"


def leaf(line: bytes) -> bytes:
    """Return the hash of one entry."""
    return sha256(_LEAF + line).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the hash of the tree over these leaves, in their order; that of no leaf is the hash of nothing."""
    if not leaves:
        return sha256().digest()
    # Pairs from the left, an odd one moves up: the same tree as by the RFC's recursion, whose left halves are the largest powers of two.
    level = list(leaves)
    while len(level) > 1:
        paired = [sha256(_NODE + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def joined(leaves: Sequence[bytes]) -> bytes:
    """Return hashes as one string of bytes."""
    return b"".join(leaves)


def split(data: bytes) -> list[bytes]:
    """Return the hashes of such a string. Raises ValueError if its length is none of whole hashes."""
    if len(data) % HASH_BYTES:
        raise ValueError(f"{len(data)} bytes are not hashes of {HASH_BYTES} bytes each")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
