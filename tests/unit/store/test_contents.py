"""What is in artifacts: comes back bit by bit or not at all, is one file however often it is put, and is never half there."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from federation.errors import Conflict, ContentChanged, ContentsUnavailable
from federation.settings import Settings
from federation.store.contents import Contents, contents

MIB = 2**20
CONTENTS = {
    "nothing": b"",
    "text": "Grüße, 世界 👩‍💻\r\n".encode(),
    "bytes": bytes(range(256)) * 3,
    "some MiB": os.urandom(3 * MIB + 17),
}


@pytest.fixture
def store(tmp_path: Path) -> Contents:
    return Contents(tmp_path / "artifacts")


def put(store: Contents, content: bytes) -> str:
    return store.put(BytesIO(content), len(content)).sha256


def files(store: Contents) -> list[Path]:
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def file_of(store: Contents, digest: str) -> Path:
    [found] = (path for path in files(store) if path.name == digest)
    return found


def whole(store: Contents, digest: str) -> bytes:
    return b"".join(store.pieces(digest))


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_what_was_put_comes_back_whole_and_in_parts_under_its_digest(store: Contents, content: bytes) -> None:
    stored = store.put(BytesIO(content), len(content))
    assert (stored.sha256, stored.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert whole(store, stored.sha256) == content
    # Twice, because what was once found right is read another way.
    _age(file_of(store, stored.sha256))
    for _ in range(2):
        parts = [store.part(stored.sha256, at, 100_000) for at in range(0, len(content) + 100_000, 100_000)]
        assert b"".join(parts) == content
        assert parts[-1] == b""


def test_the_same_content_is_one_file_which_nobody_else_can_read(store: Contents) -> None:
    before = {put(store, b"once"), put(store, b"once")}
    [file] = files(store)
    assert {file.name} == before
    assert file.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in (store.folder, file.parent, store.folder / "drafts")} == {0o700}
    inode = file.stat().st_ino
    put(store, b"once")
    assert file.stat().st_ino == inode, "others may be reading it"


def test_many_who_put_the_same_at_once_leave_one_right_file(store: Contents) -> None:
    content = os.urandom(MIB)
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: put(store, content), range(32)))
    assert len(files(store)) == 1
    assert whole(store, *digests) == content


def _age(file: Path) -> None:
    """Wait until a change of the file would show in its times for sure."""
    while time.time_ns() - file.stat().st_ctime_ns < 2_100_000_000:
        time.sleep(0.05)


def test_an_altered_file_is_refused_with_both_digests_also_after_it_was_found_right(store: Contents) -> None:
    digest = put(store, b"what was put")
    file = file_of(store, digest)
    _age(file)
    assert store.part(digest, 0, 4) == b"what"
    seen = file.stat()
    file.write_bytes(b"what was PUT")
    # Whoever alters a file may turn back the clock of its change.
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    other = hashlib.sha256(b"what was PUT").hexdigest()
    for read in (lambda: store.part(digest, 0, 4), lambda: whole(store, digest)):
        with pytest.raises(ContentChanged, match=f"got a file with SHA-256 {other}, wants SHA-256 {digest}"):
            read()
    # The same content, put again, mends it.
    assert put(store, b"what was put") == digest
    assert store.part(digest, 0, 100) == whole(store, digest) == b"what was put"


def test_a_file_that_is_gone_is_told_from_one_that_was_altered(store: Contents) -> None:
    digest = put(store, b"here")
    file_of(store, digest).unlink()
    with pytest.raises(ContentChanged, match=r"got no file, wants SHA-256 .*not mounted"):
        store.part(digest, 0, 4)


class Broken(BytesIO):
    """A source that ends with an error in its middle."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= MIB:
            raise KeyboardInterrupt
        return super().read(size)


def test_what_ends_in_the_middle_leaves_nothing(store: Contents) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.put(Broken(b"x" * 3 * MIB), 3 * MIB)
    for size in (1, 3):
        with pytest.raises(Conflict, match=f"bytes than the {size} that it had"):
            store.put(BytesIO(b"xx"), size)
    assert files(store) == []


def test_what_a_crash_left_half_written_is_gone_a_day_later_and_not_before(store: Contents) -> None:
    put(store, b"x")
    old, new = (store.folder / "drafts" / name for name in ("old", "new"))
    for draft in (old, new):
        draft.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    put(store, b"y")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_that_was_chosen_is_not_made_because_it_may_be_a_mount(tmp_path: Path) -> None:
    store = contents(Settings(data_dir=tmp_path, artifacts_dir=tmp_path / "mount"))
    with pytest.raises(ContentsUnavailable, match="FEDERATION_ARTIFACTS_DIR names a folder that is not there"):
        put(store, b"x")
    (tmp_path / "mount").mkdir()
    digest = put(store, b"x")
    assert file_of(store, digest).is_relative_to(tmp_path / "mount")
    own = contents(Settings(data_dir=tmp_path))
    put(own, b"x")
    assert file_of(own, digest).is_relative_to(tmp_path / "artifacts")


def test_a_folder_that_cannot_be_written_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file")
    with pytest.raises(ContentsUnavailable, match=r"the folder of artifacts cannot be written; nothing was recorded: .*doctor.*call again"):
        put(Contents(tmp_path / "artifacts"), b"x")
