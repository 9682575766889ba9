"""Walking a tree: what is read, what is refused and why."""

import hashlib
import os
from pathlib import Path

import pytest

from federation.errors import InvalidInput, Refused
from federation.vectors.scan import read_file, require_apart, require_inside, scan
from federation.vectors.sources import MAX_BYTES


def reasons(root: Path) -> dict[str, str]:
    return {skipped.path: skipped.reason for skipped in scan(root).skipped}


def test_files_are_listed_with_the_hash_of_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_bytes(b"x = 1\n")
    (tmp_path / "README").write_text("hello")
    found = scan(tmp_path)
    assert [file.path for file in found.files] == ["README", "pkg/a.py"]
    assert found.files[1].sha256 == hashlib.sha256(b"x = 1\n").hexdigest()
    assert found.files[1].size == 6
    assert found.skipped == ()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("picture.png", b"\x89PNG", "not UTF-8: byte 0"),
        ("program", b"\x7fELF\0", "binary"),
        ("nul.py", b"x = '\0'", "binary"),
        ("latin.txt", "Größe".encode("latin-1"), "not UTF-8: byte 2"),
        ("huge.txt", b"a" * (MAX_BYTES + 1), "huge: 1048577 bytes"),
        (".profile", b"x=1", "hidden"),
    ],
)
def test_file_that_is_no_text_is_listed_with_its_reason(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert scan(tmp_path).files == ()
    assert reason in reasons(tmp_path)[name]


def test_hidden_and_compiled_folders_are_not_entered(tmp_path: Path) -> None:
    for folder in (".git", "__pycache__"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("x = 1")
    assert scan(tmp_path).files == ()
    assert set(reasons(tmp_path)) == {".git", "__pycache__"}


def test_link_out_of_the_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("outside")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file.txt").symlink_to(tmp_path / "secret.txt")
    (root / "folder").symlink_to(tmp_path)
    assert scan(root).files == ()
    assert set(reasons(root).values()) == {"a link that leaves the tree"}


def test_links_in_a_circle_and_to_nowhere_are_harmless(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "alias.py").symlink_to("a.py")
    (tmp_path / "self.py").symlink_to("self.py")
    (tmp_path / "gone.py").symlink_to("nothing")
    assert [file.path for file in scan(tmp_path).files] == ["a.py"]
    assert reasons(tmp_path) == {
        "again": "a link; read as .",
        "alias.py": "a link; read as a.py",
        "self.py": "a link that leads nowhere",
        "gone.py": "a link that leads nowhere",
    }


def test_pipe_does_not_block_the_walk_or_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    assert reasons(tmp_path) == {"pipe.py": "neither a file nor a folder"}
    with pytest.raises(OSError, match="not a plain file"):
        read_file(tmp_path, "pipe.py")


def test_file_replaced_by_a_link_after_the_walk_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.py").symlink_to("/etc/hostname")
    with pytest.raises(OSError, match=r"a\.py"):
        read_file(tmp_path, "a.py")


def test_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="wants a folder that exists"):
        scan(tmp_path / "missing")


def test_root_that_may_be_gone_has_no_files_when_it_is(tmp_path: Path) -> None:
    found = scan(tmp_path / "missing", may_be_gone=True)
    assert (found.files, [each.path for each in found.skipped]) == ((), ["."])


def test_path_outside_the_allowed_roots_is_refused_through_a_link_too(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "out").symlink_to(tmp_path)
    assert require_inside(allowed, [allowed]) == allowed.resolve()
    assert require_inside(tmp_path, []) == tmp_path.resolve()
    for path in (tmp_path, allowed / "out", allowed / ".."):
        with pytest.raises(Refused, match="FEDERATION_INDEX_ROOTS"):
            require_inside(path, [allowed])


@pytest.mark.parametrize("asked", ["data", "data/logs", "."])
def test_a_folder_of_secrets_is_refused_whole_below_and_above(tmp_path: Path, asked: str) -> None:
    (tmp_path / "data" / "logs").mkdir(parents=True)
    with pytest.raises(Refused, match="passwords"):
        require_apart((tmp_path / asked).resolve(), [tmp_path / "data"], but=tmp_path / "data" / "demo")
    require_apart(tmp_path / "data" / "demo" / "tree", [tmp_path / "data"], but=tmp_path / "data" / "demo")


def test_a_name_that_is_not_utf8_is_skipped_and_told(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.py"))).write_text("x = 1")
    found = scan(tmp_path)
    assert found.files == ()
    assert [refusal.reason for refusal in found.skipped] == ["its name is not UTF-8"]
