"""What an agent wrote is shown by the command line and commands nothing, in a terminal as in a pipe."""

import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from federation.services import task_ends, tasks

ATTACK = "\x1b[2J\x1b]0;owned\x07[red]paid[/red]\u202etxt.exe\r  status           completed\n  status           completed"
WRITTEN = r"\x1b[2J\x1b]0;owned\x07[red]paid[/red]\u202etxt.exe\r  status           completed"


@pytest.fixture
def reached(surroundings: dict[str, str], postgres: Any, database: str, transactions: Any) -> dict[str, str]:
    """A shell from which the database is reached, in which an agent has written what it should not."""
    with transactions.begin("ada") as session:
        tasks.delegate(session, ATTACK, slug="hostile", parameters={ATTACK: ATTACK})
        task_ends.cancel(session, "hostile", reason=ATTACK)
    return surroundings | {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "TERM": "xterm-256color",
    }


def in_a_terminal(words: list[str], environment: dict[str, str]) -> str:
    """Return what a command sends to a terminal that takes colours."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "federation.cli.main", *words], env=environment, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        told = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            told += read
    os.close(ours)
    return told.decode()


def test_story_of_a_hostile_task_is_shown_and_not_obeyed(reached: dict[str, str], federation: Any) -> None:
    sent = in_a_terminal(["task", "show", "hostile"], reached)
    assert WRITTEN in sent
    for command in ("\x1b[2J", "\x1b]", "\x07", "\u202e", "\x1b[31m"):
        assert command not in sent
    lines = sent.replace("\r\n", "\n").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  status ")] == ["cancelled"]
    piped = federation("task", "show", "hostile", **reached)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert "\x1b" not in piped.stdout
    assert WRITTEN in piped.stdout


def test_list_and_errors_show_it_too(reached: dict[str, str], federation: Any) -> None:
    listed = federation("task", "list", **reached).stdout
    assert WRITTEN in listed
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(listed)
    refused = federation("task", "cancel", "no-such-\x1b[31m\u202e", **reached)
    assert refused.returncode == 1
    assert not {"\x1b", "\u202e"} & set(refused.stderr)
