"""The tree is that of RFC 9162: as its recursion says it, and as the known vectors have it."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.security import merkle

LINES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")]
# Of Certificate Transparency's test vectors, for the first one, two, three … of these.
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def of_the_rfc(lines: list[bytes]) -> bytes:
    if len(lines) == 1:
        return sha256(b"\x00" + lines[0]).digest()
    half = 1 << (len(lines) - 1).bit_length() - 1
    return sha256(b"\x01" + of_the_rfc(lines[:half]) + of_the_rfc(lines[half:])).digest()


@pytest.mark.parametrize("count", ROOTS)
def test_known_vectors(count: int) -> None:
    assert merkle.root([merkle.leaf(line) for line in LINES[:count]]).hex() == ROOTS[count]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert merkle.root([]) == sha256(b"").digest()


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70))
def test_any_number_of_lines_gives_the_root_of_the_recursion(lines: list[bytes]) -> None:
    assert merkle.root([merkle.leaf(line) for line in lines]) == of_the_rfc(lines)


def test_hashes_as_one_string() -> None:
    leaves = [merkle.leaf(line) for line in LINES]
    assert merkle.split(merkle.joined(leaves)) == leaves
    with pytest.raises(ValueError, match="33 bytes are not hashes of 32 bytes each"):
        merkle.split(b"x" * 33)
