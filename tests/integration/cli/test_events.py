"""What happened, as an operator reads it at the command line: the latest, from a number on, by type and conversation, and as it happens."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from federation.cli.events import AT_ONCE
from federation.delivery.relay import number
from federation.services import messages, task_ends, tasks
from federation.store import event_log, event_order
from federation.transaction import Transactions

Run = Callable[..., "subprocess.CompletedProcess[str]"]
# The first is an escape in one character, which PostgreSQL's JSON has as it is.
ATTACK = "\x9b2J \x1b[31m\u202e[red]näh"


@pytest.fixture(autouse=True)
def _servers(surroundings: dict[str, str], postgres: Any, database: str) -> None:
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
    }


def numbered(transactions: Transactions) -> int:
    """Give numbers, as the relay does; return the last one."""
    while number(transactions, None)[1]:
        pass
    with transactions.begin("test:hand") as session:
        return event_order.last_number(session)


@pytest.fixture
def last(transactions: Transactions) -> int:
    """Things happen; the number of the last."""
    with transactions.begin("ada") as session:
        tasks.delegate(session, ATTACK, slug="look")
        task_ends.cancel(session, "look", reason="two\n      9  forged")
        messages.send(session, "one", to="bob")
        messages.send(session, "two", to="bob")
    return numbered(transactions)


def numbers(done: "subprocess.CompletedProcess[str]") -> list[int]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["number"] for line in done.stdout.splitlines()]


def test_nothing_is_shown_before_it_has_a_number(federation: Run, transactions: Transactions) -> None:
    assert federation("events").stdout == "There is no such event.\n"
    last = numbered(transactions)
    assert len(federation("events").stdout.splitlines()) == last


def test_latest_events_are_a_line_each_and_command_nothing(federation: Run, last: int) -> None:
    shown = federation("events").stdout
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    rows = [line.split(maxsplit=6) for line in shown.splitlines()]
    assert [int(row[0]) for row in rows] == list(range(1, last + 1))
    told = {row[4]: row for row in rows}
    assert told["task.created"][3] == "ada"
    assert re.fullmatch(r"task:[0-9a-f-]{36}#1", told["task.created"][5])
    assert r'description="\x9b2J \u001b[31m\u202e[red]näh"' in told["task.created"][6]
    assert r"two\n      9  forged" in told["task.cancelled"][6]
    # No identity or digest takes the room of what else is told, nor what stands in the name of the stream.
    assert re.search(r'message_id="[0-9a-f]{8}…" .*content_sha256="[0-9a-f]{8}…"', told["message.sent"][6])
    assert "task_id" not in told["task.cancelled"][6]
    assert told["message.sent"][5] == "messages:direct:ada:bob#2"


def test_json_is_what_the_topics_have(federation: Run, transactions: Transactions, last: int) -> None:
    shown = federation("events", "--json").stdout
    with transactions.begin("test:hand") as session:
        lines = event_order.lines(session, 1, last)
    assert shown.isascii()
    assert [json.loads(line) for line in shown.splitlines()] == [json.loads(line.text) for line in lines]
    assert ATTACK in {json.loads(line)["payload"].get("description") for line in shown.splitlines()}


def test_who_goes_on_after_the_last_number_reads_all_of_it_once(federation: Run, transactions: Transactions, last: int) -> None:
    with transactions.begin("test:hand") as session:
        for _ in range(2 * AT_ONCE):
            event_log.append(session, "test.happened", "test", payload={})
    last = numbered(transactions)
    assert numbers(federation("events", "--json", "--limit", "3")) == [last - 2, last - 1, last]
    assert numbers(federation("events", "--json", "--after", "0", "--limit", str(2 * last))) == list(range(1, last + 1))
    seen: list[int] = []
    while len(seen) < last:
        done = federation("events", "--json", "--after", str(seen[-1] if seen else 0), "--limit", str(AT_ONCE + 1))
        seen += numbers(done)
        assert done.stderr == (f"(more: --after {seen[-1]})\n" if seen[-1] < last else "")
    assert seen == list(range(1, last + 1))
    assert numbers(federation("events", "--json", "--after", str(last))) == []
    beyond = federation("events", "--after", "9" * 30)
    assert (beyond.returncode, f"the last one is {last}" in beyond.stderr) == (2, True)


def test_events_are_chosen_by_type_and_conversation(federation: Run, last: int) -> None:
    def types(*words: str) -> list[str]:
        return [json.loads(line)["type"] for line in federation("events", "--json", *words).stdout.splitlines()]

    assert types("--type", "task.*") == ["task.created", "task.cancelled"]
    assert types("--type", "task.created", "--type", "message.*") == ["task.created", "message.sent", "message.sent"]
    assert types("--type", "message.sent", "--limit", "1", "--after", "0") == ["message.sent"]
    in_it = types("--conversation", "direct:ada:bob")
    assert in_it[-2:] == ["message.sent", "message.sent"]
    assert types("--conversation", "direct:ada:bob", "--type", "message.*") == in_it[-2:]
    assert types("--type", "node.*") == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--type", "task.creatd"), 1, "no event type 'task.creatd'; nearest: task.created"),
        (("--type", "tusk.*"), 1, "nearest: task.*"),
        (("--type", "task"), 1, "nearest: task.*"),
        (("--type", "*"), 1, "no event type '*'"),
        (("--conversation", "direct:ada:bo"), 1, "nearest: direct:ada:bob"),
        (("--limit", "0"), 2, "--limit: got 0"),
        (("--follow", "--after", "1", "--limit", "1"), 2, "--limit: got 1"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_can(federation: Run, last: int, words: tuple[str, ...], code: int, says: str) -> None:
    done = federation("events", *words)
    assert (done.returncode, done.stdout, says in done.stderr) == (code, "", True), done.stderr


def test_whose_reader_is_gone_ends_without_a_word(surroundings: dict[str, str], last: int) -> None:
    """Also one that follows, though nothing happens any more that it could fail to write."""
    command = [sys.executable, "-m", "federation.cli.main", "events", "--after", "0", "--follow"]
    with subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for place in range(last):
            assert process.stdout.readline().startswith(f"{place + 1:>7}  ".encode())
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (1, b"")
