"""Cutting in several processes gives what cutting here does, and leaves none of them behind."""

import sys
from pathlib import Path

import pytest

from federation.errors import TransientError
from federation.vectors import cutting
from federation.vectors.cutting import Cut, cut, cut_all
from federation.vectors.sources import Skipped


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A tree of more files than are cut in one process, one of which is gone and one no text."""
    monkeypatch.setattr(cutting.os, "sched_getaffinity", lambda _: {0, 1, 2})
    names = [f"{number:03}.py" for number in range(150)]
    for name in names:
        (tmp_path / name).write_text(f'def straße_{name[:3]}():\n    """Näher an \\x1f und \U0001f600."""\n\n\nclass Rest: ...\n')
    (tmp_path / names[20]).unlink()
    (tmp_path / names[30]).write_bytes(b"\0\0")
    return tmp_path, names


def test_files_are_cut_as_one_after_the_other_and_in_their_order(tree: tuple[Path, list[str]]) -> None:
    root, names = tree
    found = list(cut_all(root, names))
    assert found == [cut(root, name) for name in names]
    assert [each.path for each in found] == names
    assert [(each.path, each.reason) for each in found if isinstance(each, Skipped)] == [
        ("020.py", "cannot be read: No such file or directory"),
        ("030.py", "binary: it has NUL bytes"),
    ]
    [first] = [each for each in found if isinstance(each, Cut)][:1]
    assert "straße_000" in [chunk.title for chunk in first.chunks]


def test_who_takes_no_more_ends_the_processes(tree: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = cutting.subprocess.Popen

    def noted(*args: object, **options: object) -> object:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(cutting.subprocess, "Popen", noted)
    found = cut_all(*tree)
    next(found)
    assert [process.poll() for process in started] == [None, None, None]
    found.close()
    assert [process.poll() for process in started] == [0, 0, 0]


def test_process_that_ends_before_its_time_is_told(tree: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "_COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(TransientError, match="a process that cuts files has ended"):
        list(cut_all(*tree))
