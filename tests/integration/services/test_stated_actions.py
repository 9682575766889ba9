"""What agents claim, give back, cancel and say is stated too, under a signature of theirs or attested; all of it by one mechanism."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, Refused
from federation.security.statements import Draft, Presented, content_sha256, nonce
from federation.services import messages, resource_claims, statements, task_claims, task_ends, tasks
from federation.services.approvals import Decision
from federation.store import outbox
from federation.store.models.executions import Execution
from tests.integration.services.stating import DOOR, Team, by_hand

MAIN = "file:src/main.py"
NOTE = outbox.fixed_id("message", json.dumps(["project", "bob", "note"]))


def _work(session: Session) -> str:
    return f"task:{tasks.delegate(session, 'Profile the memory', slug='work').id}"


def _held(session: Session) -> str:
    subject = _work(session)
    assert task_claims.claim(session, "work", description="", ttl_s=600).claimed
    return subject


def _recorded(session: Session) -> str:
    return f"execution:{outbox.record(session, 'some.task', {})}"


def _cancel_execution(session: Session) -> None:
    [one] = session.query(Execution).all()
    assert task_ends.cancel_execution(session, one, reason="not wanted")


def _claimed(session: Session) -> str:
    assert resource_claims.take(session, MAIN, ttl_s=600).claimed
    return f"claim:{MAIN}"


def _say(session: Session, content: str = "It leaks") -> messages.Sent:
    body = {"category": "observation", "confidence": 1, "content": content}
    return messages.send(session, None, to="ada", conversation_id="project", message_type="finding", body=body, slug="note")


FINDING = {
    "conversation_id": "project",
    "to": "ada",
    "audience": None,
    "message_type": "finding",
    "reply_to": None,
    "content_sha256": sha256(b"It leaks").hexdigest(),
    "body_sha256": sha256(b'{"category":"observation","confidence":1}').hexdigest(),
}
CLAIM = {"description": "fixing", "ttl_s": 600}


@dataclass(frozen=True)
class Act:
    """What bob does, what it is about once all is ready for it, and what of it he signs."""

    action: str
    ready: Callable[[Session], str]
    do: Callable[[Session], Any]
    content: Mapping[str, Any]

    @property
    def choice(self) -> str:
        return self.action.rpartition(".")[2]


ACTS = {
    "ask for a task": Act("task.claim", _work, lambda session: task_claims.request_claim(session, "work", **CLAIM), CLAIM),
    "claim a task": Act("task.claim", _work, lambda session: task_claims.claim(session, "work", **CLAIM), CLAIM),
    "give a task back": Act("task.release", _held, lambda session: task_claims.release(session, "work"), {}),
    "cancel a task": Act(
        "task.cancel",
        _work,
        lambda session: task_ends.cancel(session, "work", reason="found"),
        {"result": {"cancelled_by": "bob", "reason": "found"}},
    ),
    "cancel an execution": Act("execution.cancel", _recorded, _cancel_execution, {"reason": "not wanted"}),
    "ask for a file": Act(
        "claim.take", lambda _: f"claim:{MAIN}", lambda session: resource_claims.request(session, MAIN, **CLAIM), CLAIM | {"fencing_token": None}
    ),
    "claim a file": Act(
        "claim.take", lambda _: f"claim:{MAIN}", lambda session: resource_claims.take(session, MAIN, **CLAIM), CLAIM | {"fencing_token": None}
    ),
    "extend a claim": Act(
        "claim.take", _claimed, lambda session: resource_claims.take(session, MAIN, token=1, **CLAIM), CLAIM | {"fencing_token": 1}
    ),
    "give a file back": Act("claim.release", _claimed, lambda session: resource_claims.give_back(session, MAIN), {}),
    "say something": Act("message.send", lambda _: f"message:{NOTE}", _say, FINDING),
}


def ready(team: Team, act: Act) -> str:
    with team.transactions.begin("bob") as session:
        return act.ready(session)


def stated(team: Team, subject: str) -> list[tuple[str, str, str, str, str | None]]:
    with team.transactions.begin("test:hand") as session:
        return [(one.actor, one.action, one.choice, one.mode, one.attested_by) for one in statements.about(session, subject)]


def signed(team: Team, act: Act, subject: str, **changed: Any) -> Presented:
    draft = Draft("bob", act.action, act.choice, subject, content_sha256({**act.content, **changed}), datetime.now(UTC).isoformat(), nonce())
    return by_hand(team.bob, draft)


@pytest.mark.parametrize("name", ACTS)
def test_who_does_something_has_stated_it(team: Team, name: str) -> None:
    act = ACTS[name]
    subject = ready(team, act)
    for voice in (team.signs("door"), team.signs("bob"), signed(team, act, subject)):
        mode, by = ("attested", DOOR) if voice == team.signs("door") else ("signed", None)
        with team.transactions.begin("bob", voice=voice) as session:
            act.do(session)
            [told] = statements.about(session, subject)
            assert (told.actor, told.action, told.choice, told.mode, told.attested_by) == ("bob", act.action, act.choice, mode, by)
            assert json.loads(told.statement)["content_sha256"] == content_sha256(act.content)
            session.rollback()
    with team.transactions.begin("bob", voice=team.signs("bob")) as session:
        act.do(session)
    assert team.rows("SELECT actor, stream, payload->>'mode' FROM events WHERE type = 'statement.made'") == [("bob", subject, "signed")]


@pytest.mark.parametrize("name", ACTS)
def test_what_was_altered_after_it_was_signed_is_not_done(team: Team, name: str) -> None:
    act = ACTS[name]
    subject = ready(team, act)
    before = team.rows("SELECT count(*) FROM events")
    for wrong, says in (
        (signed(team, act, subject, more="x"), "content_sha256"),
        (signed(team, act, f"{subject}x"), "subject"),
        (signed(team, ACTS["give a file back" if act.action != "claim.release" else "claim a file"], subject), "action"),
    ):
        with pytest.raises(Refused, match=says), team.transactions.begin("bob", voice=wrong) as session:
            act.do(session)
    assert stated(team, subject) == []
    assert team.rows("SELECT count(*) FROM events") == before


@pytest.mark.parametrize("name", ["ask for a task", "ask for a file"])
def test_an_execution_states_nothing_because_who_asked_for_it_has(team: Team, name: str) -> None:
    act = ACTS[name]
    subject = ready(team, act)
    with team.transactions.begin("bob", voice=team.signs("bob")) as session:
        asked = act.do(session)
    with team.transactions.begin("bob", execution_id=asked, voice=team.signs("door")) as session:
        ACTS["claim a task" if act.action == "task.claim" else "claim a file"].do(session)
    assert stated(team, subject) == [("bob", act.action, act.choice, "signed", None)]


def test_what_is_not_done_is_not_stated(team: Team) -> None:
    with team.transactions.begin("ada") as session:
        tasks.delegate(session, "Profile the memory", slug="work")
        assert task_claims.claim(session, "work", description="", ttl_s=600).claimed
        assert resource_claims.take(session, MAIN, ttl_s=600).claimed
    with team.transactions.begin("bob", voice=team.signs("bob")) as session:
        assert not task_claims.claim(session, "work", description="", ttl_s=600).claimed
        assert not task_claims.release(session, "work")
        assert not resource_claims.take(session, MAIN, ttl_s=600, present_s=30).claimed
        assert not resource_claims.give_back(session, MAIN).released
    assert team.rows("SELECT * FROM statements") == []


def test_who_ends_a_whole_has_stated_that_and_nothing_of_its_parts(team: Team) -> None:
    act = ACTS["cancel a task"]
    subject = ready(team, act)
    with team.transactions.begin("ada") as session:
        tasks.delegate(session, "Profile one module", slug="part", parent="work")
    with team.transactions.begin("bob", voice=signed(team, act, subject)) as session:
        act.do(session)
    assert team.rows("SELECT status FROM agent_tasks") == [("cancelled",), ("cancelled",)]
    assert team.rows("SELECT subject, mode FROM statements") == [(subject, "signed")]


def test_a_message_that_is_sent_again_is_stated_once_and_another_one_under_its_name_is_not(team: Team) -> None:
    act = ACTS["say something"]
    once = signed(team, act, f"message:{NOTE}")
    for voice in (once, once, team.signs("door"), team.signs("bob")):
        with team.transactions.begin("bob", voice=voice) as session:
            assert _say(session).message_id == NOTE
    with pytest.raises(Conflict, match="you sent another message as 'note'"), team.transactions.begin("bob", voice=team.signs("bob")) as session:
        _say(session, "It does not")
    assert stated(team, f"message:{NOTE}") == [("bob", "message.send", "send", "signed", None)]


def test_what_the_program_says_in_somebodys_name_he_has_not_stated(team: Team) -> None:
    team.parked()
    team.decide(Decision.APPROVE, team.signs("ada"))
    assert team.rows("SELECT sender FROM messages ORDER BY sender") == [("ada",), ("bob",)]
    assert team.rows("SELECT action FROM statements") == [("task.decide",)]


def test_the_longest_name_of_a_resource_can_be_signed(team: Team) -> None:
    longest = f"file:{'a' * 995}"
    with team.transactions.begin("bob", voice=team.signs("bob")) as session:
        assert resource_claims.take(session, longest, ttl_s=600).claimed
    assert stated(team, f"claim:{longest}") == [("bob", "claim.take", "take", "signed", None)]


def test_a_body_that_a_signature_would_not_bind_is_refused_with_what_to_do(team: Team) -> None:
    body = {"type": "query", "parameters": {"since": 2**53 + 1}}
    with pytest.raises(InvalidInput, match=r"body: got .*9007199254740993 .* as text"), team.transactions.begin("bob") as session:
        messages.send(session, "look", message_type="action", body=body)
    body["parameters"] = {"since": str(uuid.UUID(int=1))}
    with team.transactions.begin("bob", voice=team.signs("bob")) as session:
        messages.send(session, "look", message_type="action", body=body)
    assert len(team.rows("SELECT * FROM statements")) == 1
