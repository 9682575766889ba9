"""`federation memory` as a script sees it: as whose token it is, and as nobody else."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from federation.services import agents


@pytest.fixture
def memory(federation: Callable[..., Any], surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> Callable[..., Any]:
    """`federation memory …` on a database where ada, bob, dan and eve exist."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    return lambda *words, **more: federation("memory", *words, **more)


def test_a_memorys_life_as_a_script_sees_it(memory: Callable[..., Any], transactions: Any) -> None:
    with transactions.begin("test:setup") as session:
        bob, eve = ({"FEDERATION_TOKEN": agents.issue_token(session, name)} for name in ("bob", "eve"))
    nobody = memory("list")
    assert (nobody.returncode, "FEDERATION_TOKEN is not set" in nobody.stderr) == (2, True)
    kept = json.loads(memory("add", "Deploys need the [red]VPN\x1b[31m", "--about", "deploy", "--json", **bob).stdout)
    assert (kept["visibility"], kept["audience"], kept["new"]) == ("nobody", "bob", True)
    assert "Remembered as " in memory("add", "Lunch is at noon", "--visibility", "all", **bob).stdout
    shown = memory("list", **bob).stdout
    assert "[red]VPN" in shown
    assert "\x1b" not in shown
    [found] = json.loads(memory("list", "which VPN", "--json", **bob).stdout)["memories"]
    assert (found["memory_id"], found["about"]) == (kept["memory_id"], ["deploy"])
    assert "VPN" not in memory("list", **eve).stdout
    assert "Lunch" in memory("list", **eve).stdout
    refused = memory("forget", kept["memory_id"], **eve)
    assert (refused.returncode, refused.stderr) == (1, f"federation: no memory '{kept['memory_id']}'\n")
    assert memory("forget", kept["memory_id"], **bob).returncode == 0
    assert memory("forget", kept["memory_id"], **bob).returncode == 1
    assert "VPN" not in memory("list", **bob).stdout
    assert memory("add", "x", "--conversation", "nowhere", **bob).returncode == 1
    assert memory("add", "x", "--visibility", "friends", **bob).returncode == 2


def test_an_operator_lists_and_removes_what_others_see_and_reads_none_of_it(memory: Callable[..., Any], transactions: Any) -> None:
    with transactions.begin("test:setup") as session:
        bob = {"FEDERATION_TOKEN": agents.issue_token(session, "bob")}
    shared, own = (
        json.loads(memory("add", text, "--json", *more, **bob).stdout)["memory_id"]
        for text, more in (("Lunch is at noon", ("--visibility", "all")), ("Mine", ()))
    )
    pages = [memory("list", "--limit", "1", **bob)]
    pages.append(memory("list", "--limit", "1", "--before", pages[0].stderr.split()[-1], **bob))
    assert [("Mine" in page.stdout, "Lunch" in page.stdout, page.stderr != "") for page in pages] == [(True, False, True), (False, True, False)]
    shown = memory("list", "--as-operator").stdout
    assert [word in shown for word in (shared, own, "bob alone", "not yet", "Lunch", "Mine")] == [True, True, True, True, False, False]
    refused = memory("forget", own, "--as-operator")
    assert (refused.returncode, "remembers for itself alone" in refused.stderr) == (1, True)
    assert memory("forget", shared, "--as-operator").returncode == 0
    assert "Lunch" not in memory("list", **bob).stdout
    assert memory("embed").stdout == "There is none of which it was given up.\n"
    assert memory("embed", "--all").stdout == "1 to be embedded.\n"
    assert memory("list", "words", "--as-operator").returncode == 2


@pytest.mark.parametrize("words", [("memory", "add"), ("memory", "list"), ("artifact", "put", "room"), ("artifact", "get", "room")])
def test_bytes_that_are_no_text_are_refused_in_a_line(federation: Callable[..., Any], words: tuple[str, ...]) -> None:
    done = federation(*words, "caf\udce9", FEDERATION_TOKEN="fed_none")
    wants = f"federation: argument {len(words) + 1}: got 'bytes that are no text, from place 3 on', wants UTF-8"
    assert (done.returncode, done.stderr.partition(";")[0]) == (2, wants)


@pytest.mark.usefixtures("memory", "transactions")
def test_an_agent_is_shown_with_its_record(federation: Callable[..., Any]) -> None:
    told = json.loads(federation("agent", "show", "bob", "--json").stdout)
    assert (told["agent"], told["role"], told["record"]) == ("bob", "developer", [{"of": "overall", "well": 0, "badly": 0, "weight": 1.0}])
    assert "overall" in federation("agent", "show", "bob").stdout
    assert federation("agent", "show", "bobb").returncode == 1
