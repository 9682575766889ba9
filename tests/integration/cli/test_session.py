"""Sessions as an operator sees them: listed, shown as the patterns show a blackboard, and ended."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from federation.services import agents, findings, sessions
from federation.services.findings import Said
from federation.services.sessions import Start


@pytest.fixture(autouse=True)
def _servers(surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> None:
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }


def test_a_session_from_the_list_to_its_end(federation: Callable[..., Any], transactions: Any) -> None:
    assert federation("session", "list").stdout == "There is no session yet.\n"
    unknown = federation("session", "show", "INC-1")
    assert (unknown.returncode, "no session 'INC-1'" in unknown.stderr) == (1, True)
    with transactions.begin("ada") as session:
        sessions.join(session, "INC-1", Start(context={"task": "look\nactions_taken:"}), conversation_id="ward")
        for number in range(3):
            findings.post(session, "INC-1", Said(content=f"{number} \x1b[31m", category="observation", confidence=0.5))
    [listed] = json.loads(federation("session", "list", "--active", "--json").stdout)
    assert (listed["name"], listed["initiator"], listed["participants"], listed["findings"], listed["conversation_id"]) == (
        "INC-1",
        "ada",
        1,
        3,
        "ward",
    )
    shown = federation("session", "show", "INC-1", "--limit", "2").stdout.splitlines()
    assert (shown[:2], shown[-1]) == (["context:", '  task: "look actions_taken:"'], "(1 more findings: --limit)")
    assert '    finding: "0 \\u001b[31m" (confidence: 0.5)' in shown
    told = json.loads(federation("session", "show", listed["id"], "--json").stdout)
    assert [one["content"] for one in told["findings"]] == [f"{number} \x1b[31m" for number in range(3)]
    assert federation("session", "complete", "INC-1", "--reason", "enough").stdout == "Completed INC-1.\n"
    again = federation("session", "complete", "INC-1", "--reason", "more")
    assert (again.returncode, "is completed already" in again.stderr) == (1, True)
    assert federation("session", "list", "--active").stdout == "No session is active.\n"
    assert "completed" in federation("session", "list").stdout


def test_who_ends_a_session_is_the_agent_whose_token_is_set(federation: Callable[..., Any], transactions: Any) -> None:
    with transactions.begin("test:setup") as session:
        tokens = {name: agents.issue_token(session, name) for name in ("bob", "dan")}
    with transactions.begin("bob") as session:
        sessions.join(session, "INC-1", Start(context={"task": "look"}))
    refused = federation("session", "complete", "INC-1", "--reason", "enough", FEDERATION_TOKEN=tokens["dan"])
    assert (refused.returncode, "bob, who began session INC-1" in refused.stderr) == (1, True)
    assert federation("session", "complete", "INC-1", "--reason", "enough", FEDERATION_TOKEN=tokens["bob"]).returncode == 0
    shown = json.loads(federation("session", "show", "INC-1", "--json").stdout)
    assert shown["outcome"] == {"conclusion": "enough", "completed_by": "bob"}


def test_an_incident_from_its_beginning_to_its_outcome_as_agents_in_a_terminal(acting: Callable[..., Any]) -> None:
    def told(who: str | None, *words: str) -> Any:
        done = acting(who, "session", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    unknown = acting("bob", "session", "join", "INC-2")
    assert (unknown.returncode, "no session 'INC-2'" in unknown.stderr) == (1, True)
    voters = ("--voter", "ada", "--voter", "bob", "--voter", "dan", "--expertise", "bob=2")
    begun = told("ada", "join", "INC-2", "--context", '{"task": "errors"}', "--focus", "deployments", *voters)
    assert (begun["initiator"], begun["voters"], begun["expertise"]) == ("ada", ["ada", "bob", "dan"], {"bob": 2.0})
    early = acting("bob", "session", "post", "INC-2", "Errors", "--category", "observation")
    assert (early.returncode, "bob has not joined session INC-2" in early.stderr) == (1, True)
    assert acting("bob", "session", "join", "INC-2").stdout.startswith('context:\n  task: "errors"\n')
    told("dan", "join", "INC-2")
    evidence = ("--evidence", '{"source": "prometheus", "query": "rate(errors[5m])", "result": "0.05 \\u001b"}')
    guess = told("bob", "post", "INC-2", "The pool is exhausted", "--category", "hypothesis", "--confidence", "0.7", *evidence)
    assert (guess["session"], guess["duplicates"]) == ("active", [])
    proof = ("--category", "conclusion", "--hypothesis", guess["finding_id"], "--confirms", *evidence)
    posted = acting("dan", "session", "post", "INC-2", "-", *proof, text="It is\n")
    assert (posted.returncode, " in INC-2, which is active." in posted.stdout) == (0, True)
    assert "bob had asked prometheus 'rate(errors[5m])' before: \"0.05 \\u001b\"" in posted.stderr

    proposed = told("bob", "propose", "INC-2", "Roll back", "--type", "modify", "--parameter", "to=v1.2.2", "--id", "rollback")
    hashed = proposed["vote"]["options_hash"]
    assert f"hash         {hashed}" in acting("dan", "session", "vote", "INC-2", "rollback").stdout
    unread = acting("dan", "session", "vote", "INC-2", "rollback", "yes")
    assert (unread.returncode, "--acknowledge: got ''" in unread.stderr) == (2, True)
    other = acting("dan", "session", "vote", "INC-2", "rollback", "yes", "--acknowledge", "00000000")
    assert (other.returncode, "not the hash" in other.stderr) == (1, True)
    wrong = acting("dan", "session", "vote", "INC-2", "rollback", "perhaps", "--acknowledge", hashed)
    assert (wrong.returncode, "wants one of yes, no, abstain" in wrong.stderr) == (2, True)
    assert told("dan", "vote", "INC-2", "rollback", "yes", "--acknowledge", hashed[:8])["vote"]["voted"] == ["dan"]
    enough = told("ada", "vote", "INC-2", "rollback", "yes", "--acknowledge", hashed, "--reason", "5x baseline")
    assert (enough["vote"]["state"], enough["status"]) == ("open", "awaiting_approval")
    decided = told("bob", "vote", "INC-2", "rollback", "abstain", "--acknowledge", hashed, "--reason", "No security implications detected")
    assert (decided["vote"]["state"], decided["status"]) == ("decided", "pending")
    assert [decided["vote"][name] for name in ("votes_for", "votes_against", "abstentions")] == [2, 0, 1]
    hurried = told("bob", "propose", "INC-2", "Restart", "--type", "modify", "--id", "restart", "--early")
    told("dan", "vote", "INC-2", "restart", "yes", "--acknowledge", hurried["vote"]["options_hash"])
    assert told("ada", "vote", "INC-2", "restart", "yes", "--acknowledge", hurried["vote"]["options_hash"])["status"] == "pending"
    alone = told("bob", "propose", "INC-2", "Look again", "--type", "query", "--at-once", "--id", "look")
    assert (alone["status"], alone["vote"]) == ("pending", None)
    none = acting("ada", "session", "vote", "INC-2", "look", "yes")
    assert (none.returncode, "action look is not put to the vote" in none.stderr) == (1, True)

    taken = acting("dan", "task", "take", "rollback", "--json")
    token = str(json.loads(taken.stdout)["fencing_token"])
    assert acting("dan", "task", "complete", "rollback", "--token", token, "--result", '{"error_rate": 0.01}').returncode == 0
    end = told("ada", "post", "INC-2", "v1.2.3 exhausted the pool", "--category", "conclusion", "--completes")
    assert end["session"] == "completed"
    shown = told(None, "show", "INC-2")
    assert (shown["status"], shown["outcome"]["conclusion"]) == ("completed", "v1.2.3 exhausted the pool")
    late = acting("bob", "session", "post", "INC-2", "More", "--category", "observation")
    assert (late.returncode, "is completed already" in late.stderr) == (1, True)
    for words in (("join", "INC-3", "--context", "[]"), ("join", "INC-3", "--expertise", "ada"), ("propose", "INC-2", "x", "--type", "dance")):
        assert acting("ada", "session", *words).returncode == 2
    assert acting(None, "session", "join", "INC-2").returncode == 2
