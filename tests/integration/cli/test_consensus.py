"""Votes as a script and a stranger see them: an agent's own signature, exit codes, JSON, and an export that nobody can bend unseen."""

import copy
import itertools
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.security.decision_file import NotADecision, verify
from federation.security.signing import SigningKey, load_public
from federation.services import agents


@pytest.fixture
def tokens(transactions: Any, surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> dict[str, str]:
    """The environment of each agent's shell, all on one machine."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    with transactions.begin("test:setup") as session:
        return {name: agents.issue_token(session, name) for name in ("ada", "bob", "dan")}


def test_a_vote_from_the_question_to_the_export(federation: Callable[..., Any], tokens: dict[str, str], data_dir: Path, tmp_path: Path) -> None:
    def as_agent(name: str, *words: str) -> Any:
        return federation(*words, FEDERATION_TOKEN=tokens[name])

    without = federation("vote", "auth", "JWT")
    assert (without.returncode, "FEDERATION_TOKEN is not set" in without.stderr) == (2, True)
    assert federation("consensus", "list").stdout == "There is no vote yet.\n"
    words = ("--option", "OAuth2", "--option", "JWT", "--mechanism", "poll", "--id", "auth", "--until-the-end", "--weight", "dan=2.5")
    voters = [word for name in tokens for word in ("--voter", name)]
    asked = as_agent("ada", "consensus", "request", "Which auth approach?", *words, *voters, "--json")
    assert asked.returncode == 0, asked.stderr
    hashed = json.loads(asked.stdout)["options_hash"]
    assert hashed in as_agent("bob", "vote", "auth").stdout
    early = as_agent("bob", "vote", "auth", "JWT")
    assert (early.returncode, "you have not acknowledged" in early.stderr) == (1, True)
    other = as_agent("bob", "vote", "auth", "JWT", "--acknowledge", "00000000")
    assert (other.returncode, "not the hash" in other.stderr) == (1, True)
    assert as_agent("bob", "vote", "auth", "JWT", "--acknowledge", hashed[:7]).returncode == 2
    voted = as_agent("bob", "vote", "auth", "JWT", "--acknowledge", hashed[:8].upper(), "--confidence", "0.9", "--reason", "so", "--json")
    assert json.loads(voted.stdout) | {"consensus_id": ""} == {
        "consensus_id": "",
        "revision": 1,
        "voter": "bob",
        "choice": "JWT",
        "mode": "signed",
        "state": "open",
        "winner": None,
    }
    contrary = as_agent("bob", "vote", "auth", "OAuth2")
    assert (contrary.returncode, "both signatures are kept" in contrary.stderr) == (1, True)
    listed = federation("audit", "equivocations")
    assert (listed.returncode, "Of contrary ballots in a vote that is open neither counts." in listed.stderr) == (1, True)
    still_open = federation("consensus", "export", "auth")
    assert (still_open.returncode, "export it when it is closed" in still_open.stderr) == (1, True)
    for name, option in (("ada", "JWT"), ("dan", "OAuth2")):
        done = as_agent(name, "vote", "auth", option, "--acknowledge", hashed)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "dan voted OAuth2 in auth, signed. It is decided.\n"
    [listed] = json.loads(federation("consensus", "list", "--json").stdout)
    assert (listed["name"], listed["state"], listed["voted"], listed["winner"]) == ("auth", "decided", "3/3", "OAuth2")
    shown = json.loads(federation("consensus", "show", "auth", "--json").stdout)
    assert (shown["votes"], shown["void"], [one["voter"] for one in shown["equivocations"]]) == ({"OAuth2": 2.5, "JWT": 1}, ["bob"], ["bob"])
    unknown = federation("consensus", "show", "outh")
    assert (unknown.returncode, "nearest: auth" in unknown.stderr) == (1, True)

    file = tmp_path / "auth.json"
    assert federation("consensus", "export", "auth", str(file)).returncode == 0
    assert federation("consensus", "export", "auth", str(file)).returncode == 2
    # A stranger has no settings, and what these say would stop any command that reads them.
    held = federation("consensus", "verify", str(file), "--json", FEDERATION_DATABASE_URL="nonsense", FEDERATION_BROKER_URL="nonsense")
    told = json.loads(held.stdout)
    assert (held.returncode, told["ok"], told["equivocations"], len(told["vouched"])) == (0, True, ["bob"], 3)
    assert "EQUIVOCATION: bob" in federation("consensus", "verify", str(file)).stdout
    keys = data_dir / "keys"
    assert federation("consensus", "verify", str(file), "--key", f"bob={keys / 'agent-bob.pub.pem'}").returncode == 0
    pinned = federation("consensus", "verify", str(file), "--key", f"bob={keys / 'agent-ada.pub.pem'}")
    assert (pinned.returncode, "is not the one that you know as bob's" in pinned.stdout) == (1, True)
    document = json.loads(file.read_text())
    bent = copy.deepcopy(document)
    bent["ballots"][0]["response"] = ["OAuth2"]
    wrong = federation("consensus", "verify", "-", text=json.dumps(bent))
    assert (wrong.returncode, "its statement has choice 'JWT'" in wrong.stdout) == (1, True)
    for junk in ("", "[]", "{}", json.dumps({"type": document["type"]})):
        assert federation("consensus", "verify", "-", text=junk).returncode == 2
    twice = federation("consensus", "verify", "-", text=file.read_text().replace('"response"', '"response": ["OAuth2"], "response"', 1))
    assert (twice.returncode, "'response' stands twice in one object of it" in twice.stderr) == (2, True)
    _whatever_is_bent_shows(document, load_public(keys / "agent-dan.pub.pem").pem)

    assert as_agent("ada", "consensus", "request", "Deploy?", "--id", "deploy", "--voter", "bob").returncode == 0
    assert federation("consensus", "withdraw", "deploy", "--reason", "no").stdout == "Withdrew deploy.\n"
    assert federation("consensus", "withdraw", "deploy", "--reason", "no").returncode == 1
    assert federation("consensus", "list", "--open").stdout == "No vote is open.\n"
    assert federation("consensus", "export", "deploy", str(tmp_path / "deploy.json")).returncode == 0
    assert federation("consensus", "verify", str(tmp_path / "deploy.json")).returncode == 0


def _whatever_is_bent_shows(document: dict[str, Any], pem_of_another: str) -> None:
    """Each change of a document is a flaw that says so, or makes it no document."""
    bob = next(one for one in document["ballots"] if one["voter"] == "bob")
    ada = next(one for one in document["ballots"] if one["voter"] == "ada")
    stranger = SigningKey(Ed25519PrivateKey.generate()).public

    def ballots(changed: dict[str, Any]) -> list[dict[str, Any]]:
        return [changed if one["voter"] == "ada" else one for one in document["ballots"]]

    def proposal(**changed: Any) -> dict[str, Any]:
        return {**document, "proposal": {**document["proposal"], **changed}}

    bent = {
        "its hash is another": proposal(question="Which cache?"),
        "the proposal is not what": proposal(electorate=document["proposal"]["electorate"][:2], quorum=1),
        "the proposal is that of another": proposal(consensus_id="0" * 8),
        "nobody vouches for the proposal": {**document, "request": None},
        "winner is told as 'JWT'": {**document, "outcome": {**document["outcome"], "winner": "JWT"}},
        "it is told to be undecided": {**document, "state": "undecided"},
        "votes is told as": {**document, "outcome": {**document["outcome"], "votes": {"OAuth2": 3}}},
        "took_part is told as 2, and the ballots make it 1": {**document, "ballots": [one for one in document["ballots"] if one["voter"] != "ada"]},
        "void is told as ['bob'], and the ballots make it []": {**document, "contraries": []},
        "there are two of this voter": {**document, "ballots": [*document["ballots"], ada]},
        "it is by nobody of the electorate": {**document, "ballots": [*document["ballots"], {**ada, "voter": "eve"}]},
        "it cannot be counted": {**document, "ballots": ballots({**ada, "response": ["mTLS"]})},
        "content_sha256": {**document, "ballots": ballots({**ada, "reason": "I was asked to"})},
        "nobody vouches for it": {**document, "ballots": ballots({**ada, "statement": None, "signature": None})},
        "its signature is not that of key": {**document, "ballots": ballots({**ada, "signature": bob["signature"]})},
        "its statement is none": {**document, "ballots": ballots({**ada, "statement": ada["statement"] + " "})},
        "has actor 'bob'": {**document, "ballots": ballots({**ada, "statement": bob["statement"], "signature": bob["signature"]})},
        "has not acknowledged": {**document, "acknowledgements": [one for one in document["acknowledgements"] if one["agent"] != "ada"]},
        "not cast while the vote was open": {**document, "ballots": ballots({**ada, "cast_at": "2020-01-01T00:00:00+00:00"})},
        "is not ada's": {**document, "keys": [{**one, "owner": "mallory"} if one["owner"] == "ada" else one for one in document["keys"]]},
        "was revoked before": {
            **document,
            "keys": [{**one, "revoked_at": "2020-01-01T00:00:00+00:00"} if one["owner"] == "ada" else one for one in document["keys"]],
        },
        "key ": {**document, "keys": [{**one, "public_key": stranger.pem} for one in document["keys"]]},
        "is not bob's": {**document, "keys": [{**one, "public_key": pem_of_another} if one["owner"] == "bob" else one for one in document["keys"]]},
        "it ended before its deadline": {
            **document,
            "ballots": [one for one in document["ballots"] if one["voter"] != "dan"],
            "state": "undecided",
        },
        "the document has 'witness', which no export has": {**document, "witness": "carol"},
        "of its ballots has 'mode'": {**document, "ballots": ballots({**ada, "mode": "signed"})},
        "of its keys has 'role'": {**document, "keys": [{**one, "role": "lead"} for one in document["keys"]]},
        "the proposal's statement has 'attested_by'": {**document, "request": {**document["request"], "attested_by": None}},
        "the outcome has 'unanimous'": {**document, "outcome": {**document["outcome"], "unanimous": True}},
    }
    assert verify(document).flaws == []
    for says, changed in bent.items():
        assert any(says in flaw for flaw in verify(changed).flaws), (says, verify(changed).flaws)
    for name, wrong in itertools.product(document.keys() - {"slug"}, (None, 7, "x", [None], {"x": "y"})):
        with suppress(NotADecision):
            assert verify({**document, name: wrong}).flaws, (name, wrong)
