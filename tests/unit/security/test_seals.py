"""Seals as values and as lines: each says what it is over, follows on the one before, and shows any change of itself."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from federation.security import merkle, seals
from federation.security.signing import SigningKey

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
AT = datetime(2026, 11, 21, tzinfo=UTC)


def chain(*sizes: int) -> list[seals.Seal]:
    made: list[seals.Seal] = []
    for size in sizes:
        leaves = [merkle.leaf(f"{len(made)} {at}".encode()) for at in range(size)]
        made.append(seals.make(leaves, made[-1] if made else None, KEY, at=AT))
    return made


def test_a_chain_holds_and_tells_its_ranges() -> None:
    first, second, third = chain(3, 1, 4)
    assert [(seal.number, seal.first, seal.last) for seal in (first, second, third)] == [(1, 1, 3), (2, 4, 4), (3, 5, 8)]
    assert [first.flaw(None, KEY.public), second.flaw(first, KEY.public), third.flaw(second, KEY.public)] == [None] * 3


def test_what_was_changed_shows() -> None:
    first, second, third = chain(3, 1, 4)
    other = SigningKey(Ed25519PrivateKey.generate())
    wrong = {
        "its signature is not that of key": seals.make(merkle.split(second.leaves), first, other, at=AT),
        "it stands under another number or range": replace(second, last=5),
        "its hashes do not give the root": replace(second, leaves=merkle.leaf(b"x")),
        "it has 2 hashes for 1 events": replace(second, leaves=second.leaves * 2),
        "33 bytes are not hashes": replace(second, leaves=second.leaves + b"x"),
        "it is not the successor of seal 1": third,
    }
    for said, seal in wrong.items():
        assert said in str(seal.flaw(first, KEY.public))
    assert second.flaw(None, KEY.public) == "it is not the successor of nothing"
    [longer] = chain(4)
    assert second.flaw(longer, KEY.public) == "it is not the successor of seal 1"


@given(st.data())
def test_any_changed_byte_of_a_seal_shows(data: st.DataObject) -> None:
    first, second = chain(3, 4)
    field = data.draw(st.sampled_from(["statement", "signature", "leaves"]))
    value = getattr(second, field)
    was = value.encode() if isinstance(value, str) else value
    at = data.draw(st.integers(0, len(was) - 1))
    now = was[:at] + bytes([was[at] ^ data.draw(st.integers(1, 127))]) + was[at + 1 :]
    changed = replace(second, **{field: now.decode() if isinstance(value, str) else now})
    assert changed.flaw(first, KEY.public) is not None


def test_a_file_of_seals_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "seals" / "seals.jsonl"
    made = chain(3, 1, 4)
    assert seals.last_number(path) == 0
    seals.append(path, made[:2])
    seals.append(path, made[2:])
    assert seals.read(path) == made
    assert seals.last_number(path) == 3


def test_a_line_that_a_crash_left_unfinished_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "seals.jsonl"
    made = chain(3, 9000)
    seals.append(path, made)
    for cut in (1, 2, 1000, len(seals.line(made[1]))):
        path.write_bytes("".join(seals.line(seal) + "\n" for seal in made).encode()[:-cut])
        assert seals.last_number(path) == 1
        assert seals.read(path) == made[:1]
        seals.append(path, made[1:])
        assert seals.read(path) == made


def read_while_appending(path: Path, made: list[seals.Seal]) -> int:
    """Return how many bytes this process reads from files while these seals are appended."""

    def so_far() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    start = so_far()
    empty = so_far() - start
    before = so_far()
    seals.append(path, made)
    return so_far() - before - empty


def test_appending_reads_no_more_of_a_long_file_than_of_a_short_one(tmp_path: Path) -> None:
    if not Path("/proc/self/io").exists():
        pytest.skip("only Linux tells what a process has read")
    short, long = tmp_path / "short.jsonl", tmp_path / "long.jsonl"
    made = chain(3)
    for path, times in ((short, 2_000), (long, 20_000)):
        path.write_text((seals.line(made[0]) + "\n") * times)
        assert path.stat().st_size > seals.READ_BYTES
    assert read_while_appending(long, made) <= read_while_appending(short, made) + 1_000
    assert long.read_text() == (seals.line(made[0]) + "\n") * 20_001


def test_a_line_that_is_no_seal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "seals.jsonl"
    seals.append(path, chain(1))
    with path.open("a") as file:
        file.write('{"number": 2}\n')
    with pytest.raises(seals.NotSeals, match="line 2 is no seal"):
        seals.read(path)
