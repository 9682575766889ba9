"""What agents and people in a terminal say, ask and read: to whom it goes, what waits for what, exit codes, JSON, and what cannot be kept."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from federation.services import statements
from federation.transaction import Transactions


def told(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_message_goes_to_whom_it_is_for_is_signed_and_is_read_once_it_is_said_so(acting: Callable[..., Any], transactions: Transactions) -> None:
    without = acting(None, "send", "Hello", "--to", "bob")
    assert (without.returncode, "FEDERATION_TOKEN is not set" in without.stderr) == (2, True)
    assert acting(None, "inbox").returncode == 2
    assert acting("bob", "inbox").stdout == "Nothing new.\n"
    sent = told(acting("ada", "send", "-", "--to", "bob", "--name", "hello", "--json", text="Hello\nbob \x1b[31m\n"))
    assert (sent["recipients"], sent["conversation_id"]) == (["bob"], "direct:ada:bob")
    again = told(acting("ada", "send", "-", "--to", "bob", "--id", "hello", "--json", text="Hello\nbob \x1b[31m\n"))
    assert again["message_id"] == sent["message_id"]
    with transactions.begin("test:hand") as session:
        assert [(one.actor, one.mode) for one in statements.about(session, f"message:{sent['message_id']}")] == [("ada", "signed")]
    assert acting("ada", "send", "To developers", "--role", "developer").stdout.startswith("Sent to bob, dan in commons, as ")
    assert acting("ada", "send", "To all", "--conversation", "two", "--to", "bob").returncode == 0
    nobody = acting("bob", "send", "Who can?", "--capability", "analyze_logs")
    assert (nobody.stdout.startswith("Sent to nobody yet in commons"), "analyze_logs" in nobody.stderr) == (True, True)
    assert acting("pia", "send", "To everybody").stdout.startswith("Sent to ada, bob, dan, eve in commons")

    inbox = told(acting("bob", "inbox", "--limit", "2", "--json"))
    assert ([one["content"] for one in inbox["messages"]], inbox["more"]) == (["Hello\nbob \x1b[31m", "To developers"], True)
    shown = acting("bob", "inbox")
    assert "\x1b" not in shown.stdout
    assert "\n      Hello\n      bob \\x1b[31m\n" in shown.stdout
    assert "ada to bob in direct:ada:bob: chat, signed" in shown.stdout
    assert "federation inbox --after 4" in shown.stderr
    assert [one["content"] for one in told(acting("bob", "inbox", "--after", "3", "--json"))["messages"]] == ["To everybody"]
    assert [one["content"] for one in told(acting("bob", "inbox", "--json"))["messages"]] == ["To everybody"]
    assert acting("bob", "inbox", "--after", "4").stdout == "Nothing new.\n"
    wrong = acting("bob", "inbox", "--after", "9")
    assert (wrong.returncode, "after: got 9, wants a cursor" in wrong.stderr) == (2, True)


def test_a_typed_message_has_a_body_from_a_place_a_file_or_standard_input(acting: Callable[..., Any], tmp_path: Path) -> None:
    body = {"category": "hypothesis", "confidence": 0.7, "evidence": [{"source": "prometheus"}]}
    file = tmp_path / "body.json"
    file.write_text(json.dumps(body))
    finding = ("send", "It leaks", "--to", "bob", "--type", "finding", "--body")
    for given, text in ((json.dumps(body), ""), (f"@{file}", ""), ("-", json.dumps(body))):
        assert acting("ada", *finding, given, text=text).returncode == 0
    assert [one["data"] for one in told(acting("bob", "inbox", "--json"))["messages"]] == [body] * 3
    parked = acting("bob", "send", "Restart it", "--type", "action", "--body", '{"type": "modify", "requires_approval": true}')
    assert (parked.returncode, "the approval of ada" in parked.stderr) == (0, True)
    file.write_bytes(b"\xff")
    for words, says in (
        ((*finding, '{"category": "guess"}'), "body.category: got 'guess'"),
        ((*finding, "[1]"), "--body: got '[1]', wants a JSON object"),
        ((*finding, "{"), "--body: got '{', wants a JSON object ("),
        ((*finding, '{"category": "\\u0000"}'), "text without NUL"),
        ((*finding, f"@{file}"), "text in UTF-8"),
        ((*finding, f"@{tmp_path / 'none'}"), "a file that can be read"),
        (("send", "-", "--body", "-"), "where the text is read from standard input"),
        (("send", "-"), "content: got '', wants a text that is not empty"),
        (("send", "Hello", "--to", "bob", "--role", "developer"), "wants one of --to, --role and --capability"),
    ):
        wrong = acting("ada", *words)
        assert (wrong.returncode, says in wrong.stderr, wrong.stdout) == (2, True, ""), wrong.stderr
    long = acting("ada", "send", "-", text="x" * 100_001)
    assert (long.returncode, "wants at most 100000" in long.stderr) == (2, True)
    unknown = acting("ada", "send", "Hello", "--to", "bobb")
    assert (unknown.returncode, "nearest: bob" in unknown.stderr) == (1, True)


def test_who_asks_waits_for_the_answer_of_one_whose_inbox_waits_for_the_question(acting: Callable[..., Any]) -> None:
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(acting, "bob", "inbox", "--wait", "60", "--json")
        asking = pool.submit(acting, "ada", "ask", "Error rate?", "--to", "bob", "--parameter", "service=auth", "--wait", "60")
        [question] = told(waiting.result())["messages"]
        assert (question["message_type"], question["data"]) == ("request", {"parameters": {"service": "auth"}})
        assert acting("bob", "send", "0.05 \x1b[2J", "--reply-to", question["message_id"]).returncode == 0
        answered = asking.result()
    assert (answered.returncode, answered.stdout) == (0, "0.05 \\x1b[2J\n")
    assert "bob answers (success, signed):" in answered.stderr


def test_an_answer_that_is_late_is_read_by_the_handle_and_one_that_failed_is_no_success(acting: Callable[..., Any]) -> None:
    late = acting("ada", "ask", "Who did it?", "--to", "bob", "--wait", "0", "--json")
    asked = json.loads(late.stdout)
    assert (late.returncode, asked["state"], asked["waiting_for"]) == (1, "waiting", "the answer of bob")
    handle = ("ask", "--result", asked["request_id"], "--wait", "0")
    still = acting("ada", *handle)
    assert (still.returncode, still.stdout, f"federation ask --result {asked['request_id']}" in still.stderr) == (1, "", True)
    failure = ("--type", "response", "--body", '{"status": "failure"}')
    assert acting("bob", "send", "I cannot see", "--reply-to", asked["request_id"], *failure).returncode == 0
    failed = acting("ada", *handle)
    assert (failed.returncode, failed.stdout) == (1, "I cannot see\n")
    others = acting("dan", *handle)
    assert (others.returncode, "no request" in others.stderr) == (1, True)
    for words in (("ask",), ("ask", "Who?", "--result", asked["request_id"]), (*handle, "--to", "bob"), ("ask", "Who?", "--wait", "nan")):
        assert acting("ada", *words).returncode == 2


def test_a_state_is_told_and_answered_with_who_could_help(acting: Callable[..., Any]) -> None:
    offers = ("--offering", "Reading profiles of memory", "--capability", "analyze_logs", "--capability", "profile")
    told(acting("bob", "state", "--summary", "Free", "--action", "idle", *offers, "--json"))
    wonders = acting("ada", "state", "--summary", "Hunting \x1b[31m", "--wondering", "Who reads a profile of memory?")
    assert wonders.stdout.splitlines() == [
        "ada is EXECUTING: Hunting \\x1b[31m",
        "ada wonders «Who reads a profile of memory?»: bob offers «Reading profiles of memory»",
    ]
    rows = {row["name"]: row for row in told(acting(None, "pulse", "--json"))["rows"]}
    assert (rows["bob"]["status"], rows["bob"]["capabilities"]) == ("IDLE", ["analyze_logs", "profile"])
    assert acting("bob", "state", "--summary", "Away", "--no-capability", "--visible", "nobody").returncode == 0
    assert {row["name"]: row for row in told(acting(None, "pulse", "--json"))["rows"]}["bob"]["capabilities"] == []
    for words, says in (
        (("--summary", " "), "summary: got ' ', wants a text that is not empty"),
        (("--summary", "x" * 1001), "--summary: got '1001 characters', wants at most 1000"),
        (("--summary", "x", "--capability", "no good"), "capabilities: got 'no good'"),
        (("--summary", "x", "--capability", "a", "--no-capability"), "no --no-capability beside it"),
    ):
        wrong = acting("ada", "state", *words)
        assert (wrong.returncode, says in wrong.stderr) == (2, True), wrong.stderr
    assert acting(None, "state", "--summary", "Free").returncode == 2


@pytest.mark.parametrize("command", ["send", "ask", "inbox", "state"])
def test_a_token_that_is_not_valid_speaks_for_nobody(acting: Callable[..., Any], federation: Callable[..., Any], command: str) -> None:
    words = {"send": ("Hello",), "ask": ("Who?",), "inbox": (), "state": ("--summary", "Free")}[command]
    wrong = federation(command, *words, FEDERATION_TOKEN="fed_wrong")
    assert (wrong.returncode, wrong.stdout, "token" in wrong.stderr) == (1, "", True)
