"""A front door that lies to `federation mcp --url` and `federation vote --url`: what one call or one process signs holds together."""

import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import federation.settings as settings_module
from federation.cli import vote as vote_command
from federation.consensus.proposal import TYPE
from federation.errors import InvalidInput, PermanentError, Refused
from federation.security.statements import content_sha256
from federation.settings import Settings
from federation.stub.door import FrontDoor
from tests.integration.mcp.lying import answering, asking, done

pytestmark = pytest.mark.anyio
ONE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
APPROVE = {"task_id": "restart-cache", "decision": "approve"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data directory of an agent's machine."""
    made = tmp_path / "laptop"
    made.mkdir()
    return made


def door(url: str, folder: Path, **more: Any) -> FrontDoor:
    return FrontDoor(f"{url}/mcp", "fed_x", "ada", ssl.create_default_context(), Settings(data_dir=folder), **more)


def decision(choice: str = "approve", task: str = ONE, **about: Any) -> dict[str, Any]:
    return asking("ada", "task.decide", choice, f"task:{task}", {"description": "", "reason": "", "terms": {}} | about)


def proposed(*options: str, vote: str = ONE, revision: int = 1) -> dict[str, Any]:
    electorate = [{"agent": "ada", "weight": 1000}]
    rules = {"mechanism": "majority", "base": "cast", "electorate": electorate, "quorum": 0, "threshold": None}
    said = {"question": "Which?", "options": list(options), "conversation_id": "commons"}
    return {"type": TYPE, "consensus_id": vote, "revision": revision, **said, **rules}


def shown(about: dict[str, Any], **lies: Any) -> dict[str, Any]:
    """How a vote is told to stand."""
    hashed = {"proposal": about, "options_hash": content_sha256(about)}
    return done({name: value for name, value in about.items() if name not in {"type", "electorate"}} | hashed | lies)


def ballot(about: dict[str, Any], choice: str) -> dict[str, Any]:
    content = {"options_hash": content_sha256(about), "response": [choice], "confidence": None, "reason": ""}
    return asking("ada", "consensus.vote", choice, f"consensus:{about['consensus_id']}:{about['revision']}:ada", content, proposal=about)


async def test_what_a_call_is_about_stays_the_same_while_it_is_signed(folder: Path) -> None:
    with (
        answering(200, decision(), decision(task=OTHER)) as url,
        pytest.raises(
            Refused, match=rf"of task:{OTHER}, .* and of this call .* of task:{ONE}, .* was signed: .* the front door lies.*One statement .*{ONE}"
        ),
    ):
        await door(url, folder).call("federation_approve", APPROVE)
    # It says one thing: what was changed meanwhile is looked at anew, or one call would approve whatever stands there.
    for other in (decision(description="Drop the tables"), decision(terms={"reserved_for": "eve"})):
        with answering(200, decision(), other) as url, pytest.raises(Refused, match=rf"task.decide of task:{ONE}, sha256 .* was signed: "):
            await door(url, folder).call("federation_approve", APPROVE)
    with answering(200, decision(), decision(), done({})) as url:
        answer = await door(url, folder).call("federation_approve", APPROVE)
    [told] = answer.content
    assert told.type == "text"
    assert told.text.count(f"approve of task:{ONE}") == 2
    # Whoever takes whichever is left takes another, when somebody was quicker.
    claims = [asking("ada", "task.claim", "claim", f"task:{task}", {"description": "", "ttl_s": 60}) for task in (ONE, OTHER)]
    with answering(200, *claims, done({})) as url:
        assert not (await door(url, folder).call("swarm_claim_task", {"session_id": "s"})).is_error
    with answering(200, *claims) as url, pytest.raises(Refused, match="the front door lies"):
        await door(url, folder).call("swarm_claim_task", {"session_id": "s", "action_id": "x"})


async def test_one_process_signs_one_choice_of_one_thing(folder: Path) -> None:
    with answering(200, decision(), done({}), decision("reject"), decision("reject", OTHER), done({})) as url:
        ada = door(url, folder)
        await ada.call("federation_approve", APPROVE)
        reject = {"task_id": "drop-tables", "decision": "reject"}
        with pytest.raises(Refused, match=rf"'reject' of task:{ONE}, of which it has signed 'approve' before.*Nothing was signed"):
            await ada.call("federation_approve", reject)
        assert not (await ada.call("federation_approve", reject)).is_error


async def test_a_ballot_is_over_what_its_agent_has_read(folder: Path) -> None:
    read, other, amended = proposed("a", "b"), proposed("a", "b", vote=OTHER), proposed("b", "a", revision=2)
    for name, known, shown in (("auth", OTHER, other), ("auth", OTHER, amended), (ONE.upper(), ONE, amended)):
        with answering(200, done({"consensus_id": known}), ballot(shown, "a")) as url:
            ada = door(url, folder)
            await ada.call("federation_consensus_acknowledge", {"consensus_id": name, "options_hash": content_sha256(read)})
            with pytest.raises(Refused, match=rf"{content_sha256(read)} was acknowledged: look at the vote again.*Nothing was signed"):
                await ada.call("federation_consensus_respond", {"consensus_id": name, "response": "a"})
    # By another name of it too; and what was read last counts.
    acknowledged = {"consensus_id": "auth", "options_hash": content_sha256(read)}
    with answering(200, done({"consensus_id": ONE}), ballot(amended, "a"), done({"consensus_id": ONE}), ballot(amended, "a"), done({})) as url:
        ada = door(url, folder)
        await ada.call("federation_consensus_acknowledge", acknowledged)
        with pytest.raises(Refused, match="was acknowledged"):
            await ada.call("federation_consensus_respond", {"consensus_id": ONE, "response": "a"})
        await ada.call("federation_consensus_acknowledge", acknowledged | {"options_hash": content_sha256(amended)})
        assert not (await ada.call("federation_consensus_respond", {"consensus_id": ONE, "response": "a"})).is_error
        assert ada.said is not None


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as `federation` on that machine."""
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(folder))
    monkeypatch.setenv("FEDERATION_TOKEN", "fed_x")
    settings_module.settings.cache_clear()
    yield
    settings_module.settings.cache_clear()


def vote(url: str, *response: str, acknowledge: str | None = None) -> None:
    """`federation vote auth`."""
    vote_command.vote("auth", list(response), acknowledge=acknowledge, url=f"{url}/mcp", agent="ada")


@pytest.mark.usefixtures("here")
def test_the_command_line_signs_one_ballot_over_what_was_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    read, other = proposed("a", "b"), proposed("a", "b", revision=2)
    digest = content_sha256(read)
    results = shown(read)
    counted = done({"consensus_id": ONE, "revision": 1, "mode": "signed", "state": "open", "winner": None})
    for found in (results, shown(other)):
        with answering(200, found, done({}), ballot(other, "a")) as url, pytest.raises(Refused, match=r"was acknowledged: .*Nothing was signed"):
            vote(url, "a", acknowledge=digest)
    with answering(200, results, done({}), ballot(read, "a"), counted) as url:
        vote(url, "a", acknowledge=digest)
    assert "ada voted a in auth, signed" in capsys.readouterr().out
    signed = rf"a of consensus:{ONE}:1:ada"
    with (
        answering(200, ballot(read, "a"), ballot(read, "a"), counted) as url,
        pytest.raises(PermanentError, match=rf"more than one signature of one call.*\({signed}"),
    ):
        vote(url, "a")
    # Whatever comes after it: that it was signed is told.
    for ended in (done({}), done(None), done() | {"isError": True}):
        with answering(200, ballot(read, "a"), ended) as url, pytest.raises(PermanentError, match=f"signed and sent: {signed}"):
            vote(url, "a")
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("here")
def test_nobody_signs_over_a_part_of_a_hash_or_a_hash_of_something_else_than_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    read, other = proposed("a", "b"), proposed("a", "b") | {"question": "Shall eve be paid?"}
    # Who chooses both finds two whose hashes begin alike; for one digit among these.
    alike = next(found for number in range(1_000) if content_sha256(found := other | {"quorum": number})[0] == content_sha256(read)[0])
    for digits in (1, 8, 63):
        with answering(200, shown(alike), done({}), ballot(alike, "a")) as url, pytest.raises(InvalidInput, match="all 64 digits"):
            vote(url, "a", acknowledge=content_sha256(read)[:digits])
    # The question of one, and the hash of the other.
    digest = content_sha256(other)
    for lie in (shown(other, question="Which?"), shown(read, options_hash=digest), shown(other, options=["a", "c"])):
        for response, acknowledge in (((), None), (("a",), digest)):
            with answering(200, lie, done({}), ballot(other, "a")) as url, pytest.raises(PermanentError, match="is not the hash of"):
                vote(url, *response, acknowledge=acknowledge)
    assert capsys.readouterr().out == ""
    with answering(200, shown(read)) as url:
        vote(url)
    assert content_sha256(read) in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_an_answer_in_another_form_is_told_in_one_line() -> None:
    for told, response, acknowledge in (
        (None, (), None),
        (None, ("a",), None),
        ({}, (), None),
        ({}, ("a",), "a" * 64),
        ({"options_hash": 5, "consensus_id": ONE}, ("a",), "a" * 64),
        (["x"], (), None),
    ):
        with answering(200, done(told)) as url, pytest.raises(PermanentError) as said:
            vote(url, *response, acknowledge=acknowledge)
        assert "\n" not in str(said.value), (told, said.value)
