"""What .gitignore files leave out: the same as git itself."""

import os
import subprocess
from pathlib import Path

import pytest

from federation.vectors.scan import IGNORED, scan

FILES = (
    *("a.log", "keep.log", "top.txt", "sub/top.txt", "build/out.txt", "sub/build/out.txt", "buildfile", "docs/a/b/c.txt", "docs/c.txt"),
    *("é.txt", "z.txt", "b/z.txt", "b/c/z.txt", "a1.txt", "_.txt", "à", "[.txt", "].txt", "x-y.txt"),
    *("name with space", "trail ", "#hash", "!bang", "deep/x/y/z.tmp", "deep/x/keep.tmp", "foo/bar", "foo/baz/qux", "abc.txt", "aXc.txt"),
)
RULES = {
    "suffix and exception": {".gitignore": "*.log\n!keep.log\n"},
    "anchored": {".gitignore": "/top.txt\n"},
    "folder": {".gitignore": "build/\n"},
    "double stars": {".gitignore": "docs/**/c.txt\n**/z.tmp\n"},
    "nothing comes back from a folder that is left out": {".gitignore": "deep/\n!deep/x/keep.tmp\n"},
    "only some": {".gitignore": "*\n!*/\n!*.txt\n"},
    "inner before outer": {".gitignore": "*.tmp\n", "deep/x/.gitignore": "!keep.tmp\n"},
    "inner anchors": {"sub/.gitignore": "/top.txt\n/build\n"},
    "content of a folder, and of it one file not": {".gitignore": "docs/**\n!docs/c.txt\n"},
    "all but what is deep": {".gitignore": "/*\n!/deep/\n/deep/x/*\n!/deep/x/keep.tmp\n"},
    "signs": {".gitignore": "\\#hash\n\\!bang\nname\\ with\\ space\na[A-Z]c.txt\n"},
    "slash in the middle": {".gitignore": "foo/baz\nx/y\n"},
    "star inside": {".gitignore": "foo/*\n!foo/bar\n"},
    "letters by name": {".gitignore": "[[:alpha:]].txt\n"},
    "letters by name and others": {".gitignore": "[_[:digit:][:lower:]].txt\na[![:lower:]].txt\n"},
    "signs by name": {".gitignore": "[[:punct:]].txt\nx[[:graph:]]y.txt\n"},
    "a bracket beside a name": {".gitignore": "[][:digit:]].txt\n"},
    "a name that does not exist": {".gitignore": "[[:letter:]].txt\nz.txt\n"},
    "folders below": {".gitignore": "b/**/\n"},
    "bytes, of which a letter may be two": {".gitignore": "[!a].txt\n"},
    "a sign is a byte": {".gitignore": "?.txt\n"},
    "two signs are a letter": {".gitignore": "??.txt\nà\n"},
    "comments, blanks, carriage returns and what is no pattern": {".gitignore": "# *.txt\n\n   \n\\\n[z-a]\nabc.txt  \n"},
}


def tree(root: Path, rules: dict[str, str]) -> None:
    for name in FILES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("words")
    for name, text in rules.items():
        (root / name).write_text(text)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_the_same_files_are_left_out_as_by_git(tmp_path: Path, rules: dict[str, str]) -> None:
    tree(tmp_path, rules)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True, env=environment)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-standard"], cwd=tmp_path, check=True, env=environment, capture_output=True, text=True
    ).stdout.split("\0")
    seen = {name for name in listed if name and not Path(name).name.startswith(".")}
    assert {file.path for file in scan(tmp_path).files} == seen
    assert len(seen) < len(FILES)
    assert IGNORED in {refusal.reason for refusal in scan(tmp_path).skipped}


def test_rules_of_the_repository_around_a_folder_hold_in_it(tmp_path: Path) -> None:
    tree(tmp_path / "repository" / "part", {})
    (tmp_path / ".gitignore").write_text("*\n")
    (tmp_path / "repository" / ".git").mkdir()
    (tmp_path / "repository" / ".gitignore").write_text("*.log\nbuild/\n")
    found = {file.path for file in scan(tmp_path / "repository" / "part").files}
    assert "a.log" not in found
    assert "sub/build/out.txt" not in found
    assert "abc.txt" in found
    # Asked for by its name.
    assert {file.path for file in scan(tmp_path / "repository" / "part" / "build").files} == {"out.txt"}


def test_a_pipe_and_a_link_in_the_place_of_the_rules_rule_nothing(tmp_path: Path) -> None:
    for name in ("pipe", "link"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("words")
    os.mkfifo(tmp_path / "pipe" / ".gitignore")
    (tmp_path / "rules").write_text("*")
    (tmp_path / "link" / ".gitignore").symlink_to(tmp_path / "rules")
    assert {file.path for file in scan(tmp_path).files} == {"pipe/a.txt", "link/a.txt", "rules"}
