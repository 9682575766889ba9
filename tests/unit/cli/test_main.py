"""The help is whole and plain, and wrong words end with status 2 on standard error."""

import re

import pytest

from federation.cli.main import COMMANDS, main

AGENT = [("agent", name) for name in ("add", "list", "rotate", "revoke", "config", "key")]
ALL = [(entry.name,) for entry in COMMANDS] + AGENT


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line with these words, and return its status."""
    monkeypatch.setattr("sys.argv", ["federation", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize("words", [(), *ALL], ids=" ".join)
def test_help_is_whole_and_plain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert run(monkeypatch, *words, "--help") == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.startswith(f"Usage: {' '.join(('federation', *words))} ")
    assert "\x1b[" not in told.out
    assert "..." not in told.out.partition("\n")[2]  # nothing is cut


@pytest.mark.parametrize(
    "words", [(), ("agent",), ("agent", "add"), ("nothing",), ("up", "--nothing"), ("agent", "config", "nora", "--client", "emacs")]
)
def test_wrong_words_are_told_on_standard_error_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(monkeypatch, *words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Usage: federation" in told.err
    assert "\x1b[" not in told.err


def test_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert re.fullmatch(r"federation \d+\.\d+\.\d+\n", capsys.readouterr().out)
