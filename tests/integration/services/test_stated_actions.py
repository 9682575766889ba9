"""What agents claim, give back, cancel and say is stated too, under a signature of theirs or attested; all of it by one mechanism."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from federation.errors import Conflict, InvalidInput, Refused
from federation.security.statements import Draft, Presented, content_sha256, nonce
from federation.services import actions, assignments, messages, resource_claims, statements, task_claims, task_ends, tasks
from federation.services.approvals import Decision
from federation.store import event_log, outbox
from federation.store.fixed_ids import fixed_id
from federation.store.models.executions import Execution
from federation.transaction import Transactions
from tests.integration.services.stating import DOOR, Team, by_hand

MAIN = "file:src/main.py"
NOTE = fixed_id("message", json.dumps(["project", "bob", "note"]))
GATE = fixed_id("task", json.dumps(["project", "bob", "gate"]))
PART = fixed_id("task", json.dumps(["project", "ada", "part"]))


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
START_AT = datetime(2099, 1, 31, 18, tzinfo=timezone(timedelta(hours=1)))
ASKED = {"parameters": {"share": 0.5, "then": ["look"]}, "requirements": {"role": "lead"}, "priority": 7, "timeout_s": 60.0, "look_up": True}


def _ask(session: Session, description: str = "Restart the cache", slug: str | None = "gate", **changed: Any) -> uuid.UUID:
    asked = {"executor": "node", "start_at": START_AT, "conversation_id": "project", "requires_approval": True, **ASKED, **changed}
    return tasks.delegate(session, description, slug=slug, **asked).id


NEEDS = {"engine": "chat", "role": "lead"}
WANTED = {
    "conversation_id": "project",
    "slug": "gate",
    "description": "Restart the cache",
    "requires_approval": True,
    "terms": {**ASKED, "executor": "node", "task_type": "investigate", "start_at": "2099-01-31T17:00:00+00:00", "requirements": NEEDS},
}


def _whole(session: Session) -> str:
    tasks.delegate(session, "Ship it", slug="ship", conversation_id="project")
    return f"task:{PART}"


def _designate(session: Session, subtask: str = "Build it", slug: str | None = "part", parent: str | None = "ship", agent: str = "bob") -> uuid.UUID:
    return assignments.assign(session, agent, "developer", subtask, conversation_id="project", slug=slug, parent=parent).id


def _open(session: Session) -> str:
    return f"task:{tasks.delegate(session, 'Build it', slug='build', conversation_id='project').id}"


WHOLE = str(fixed_id("task", json.dumps(["project", "ada", "ship"])))
DESIGNATED = {"conversation_id": "project", "slug": "part", "description": "Build it", "designated": "developer"}
DESIGNATED |= {"terms": {"executor": "agent", "priority": 5, "reserved_for": "bob", "task_type": "investigate", "parent_id": WHOLE}}


@dataclass(frozen=True)
class Act:
    """What somebody does, what it is about once all is ready for it, and what of it he signs."""

    action: str
    ready: Callable[[Session], str]
    do: Callable[[Session], Any]
    content: Mapping[str, Any]
    who: str = "bob"

    @property
    def choice(self) -> str:
        return self.action.rpartition(".")[2]


ACTS = {
    "claim a task": Act("task.claim", _work, lambda session: task_claims.claim(session, "work", **CLAIM), CLAIM),
    "give a task back": Act("task.release", _held, lambda session: task_claims.release(session, "work"), {}),
    "cancel a task": Act(
        "task.cancel",
        _work,
        lambda session: task_ends.cancel(session, "work", reason="found"),
        {"result": {"cancelled_by": "bob", "reason": "found"}},
    ),
    "cancel an execution": Act("execution.cancel", _recorded, _cancel_execution, {"reason": "not wanted"}),
    "claim a file": Act(
        "claim.take", lambda _: f"claim:{MAIN}", lambda session: resource_claims.take(session, MAIN, **CLAIM), CLAIM | {"fencing_token": None}
    ),
    "extend a claim": Act(
        "claim.take", _claimed, lambda session: resource_claims.take(session, MAIN, token=1, **CLAIM), CLAIM | {"fencing_token": 1}
    ),
    "give a file back": Act("claim.release", _claimed, lambda session: resource_claims.give_back(session, MAIN), {}),
    "hand out a task": Act("task.delegate", lambda _: f"task:{GATE}", _ask, WANTED),
    "designate somebody with a new task": Act("role.assign", _whole, _designate, DESIGNATED, "ada"),
    "hand a task on": Act(
        "role.assign", _open, lambda session: _designate(session, "build", None, None), {"agent": "bob", "role": "developer"}, "ada"
    ),
    "say something": Act("message.send", lambda _: f"message:{NOTE}", _say, FINDING),
}


def ready(team: Team, act: Act) -> str:
    with team.transactions.begin(act.who) as session:
        return act.ready(session)


def stated(team: Team, subject: str) -> list[tuple[str, str, str, str, str | None]]:
    with team.transactions.begin("test:hand") as session:
        return [(one.actor, one.action, one.choice, one.mode, one.attested_by) for one in statements.about(session, subject)]


def signed(team: Team, act: Act, subject: str, **changed: Any) -> Presented:
    draft = Draft(act.who, act.action, act.choice, subject, content_sha256({**act.content, **changed}), datetime.now(UTC).isoformat(), nonce())
    return by_hand(getattr(team, act.who), draft)


@pytest.mark.parametrize("name", ACTS)
def test_who_does_something_has_stated_it(team: Team, name: str) -> None:
    act = ACTS[name]
    subject = ready(team, act)
    for voice in (team.signs("door"), team.signs(act.who), signed(team, act, subject)):
        mode, by = ("attested", DOOR) if voice == team.signs("door") else ("signed", None)
        with team.transactions.begin(act.who, voice=voice) as session:
            act.do(session)
            [told] = statements.about(session, subject)
            assert (told.actor, told.action, told.choice, told.mode, told.attested_by) == (act.who, act.action, act.choice, mode, by)
            assert json.loads(told.statement)["content_sha256"] == content_sha256(act.content)
            session.rollback()
    with team.transactions.begin(act.who, voice=team.signs(act.who)) as session:
        act.do(session)
    assert team.rows("SELECT actor, stream, payload->>'mode' FROM events WHERE type = 'statement.made'") == [(act.who, subject, "signed")]


@pytest.mark.parametrize("name", ACTS)
def test_what_was_altered_after_it_was_signed_is_not_done(team: Team, name: str) -> None:
    act = ACTS[name]
    subject = ready(team, act)
    before = team.rows("SELECT count(*) FROM events")
    for wrong, says in (
        (signed(team, act, subject, more="x"), "content_sha256"),
        (signed(team, act, f"{subject}x"), "subject"),
        (signed(team, replace(act, action="task.release" if act.action != "task.release" else "task.claim"), subject), "action"),
    ):
        with pytest.raises(Refused, match=says), team.transactions.begin(act.who, voice=wrong) as session:
            act.do(session)
    assert stated(team, subject) == []
    assert team.rows("SELECT count(*) FROM events") == before


@pytest.mark.parametrize("name", ["claim a task", "claim a file"])
def test_an_execution_states_nothing(team: Team, name: str) -> None:
    act = ACTS[name]
    subject = ready(team, act)
    with team.transactions.begin("bob") as session:
        asked = outbox.record(session, "some.task", {})
    with team.transactions.begin("bob", execution_id=asked, voice=team.signs("door")) as session:
        act.do(session)
    assert stated(team, subject) == []


@pytest.mark.parametrize("name", ["claim a task", "claim a file"])
def test_who_loses_a_claim_has_stated_nothing_and_may_state_it_later(team: Team, name: str) -> None:
    act = ACTS[name]
    subject = ready(team, act)
    with team.transactions.begin("ada") as session:
        act.do(session)
    once = signed(team, act, subject)
    with team.transactions.begin("bob", voice=once) as session:
        assert not act.do(session).claimed
    assert stated(team, subject) == []
    with team.transactions.begin("ada") as session:
        assert task_claims.release(session, "work") if act.action == "task.claim" else resource_claims.give_back(session, MAIN).released
    with team.transactions.begin("bob", voice=once) as session:
        assert act.do(session).claimed
    assert stated(team, subject) == [("bob", act.action, act.choice, "signed", None)]


ALTERED: dict[str, tuple[str, Callable[[Session], Any]]] = {
    "another description": ("hand out a task", lambda session: _ask(session, "Drop the tables")),
    "another parameter": ("hand out a task", lambda session: _ask(session, parameters={"share": 0.5, "then": ["drop"]})),
    "another node": ("hand out a task", lambda session: _ask(session, requirements={"role": "developer"})),
    "without approval": ("hand out a task", lambda session: _ask(session, requires_approval=False, task_type="analyze")),
    "another time": ("hand out a task", lambda session: _ask(session, start_at=START_AT + timedelta(microseconds=1))),
    "another agent": ("designate somebody with a new task", lambda session: _designate(session, agent="dan")),
    "another whole": ("designate somebody with a new task", lambda session: _designate(session, parent=None)),
    "another subtask": ("designate somebody with a new task", lambda session: _designate(session, "Break it")),
    "handed to another": ("hand a task on", lambda session: _designate(session, "build", None, None, agent="dan")),
}


@pytest.mark.parametrize("how", ALTERED)
def test_what_was_handed_out_is_what_was_signed(team: Team, how: str) -> None:
    name, do = ALTERED[how]
    act = ACTS[name]
    subject = ready(team, act)
    before = team.rows("SELECT count(*), (SELECT count(*) FROM agent_tasks) FROM events")
    with pytest.raises(Refused, match="content_sha256"), team.transactions.begin(act.who, voice=signed(team, act, subject)) as session:
        do(session)
    assert team.rows("SELECT count(*), (SELECT count(*) FROM agent_tasks) FROM events") == before
    assert stated(team, subject) == []


@pytest.mark.parametrize("name", ["hand out a task", "designate somebody with a new task"])
def test_what_hands_out_one_task_hands_out_no_other(team: Team, name: str) -> None:
    act = ACTS[name]
    subject = ready(team, act)
    once = signed(team, act, subject)
    do = _ask if act.who == "bob" else _designate
    for slug, says in (("other", "subject"), (None, "task_id: got None, wants a name that you choose")):
        with pytest.raises((Refused, InvalidInput), match=says), team.transactions.begin(act.who, voice=once) as session:
            do(session, slug=slug)
    for voice in (once, once, team.signs("door"), team.signs(act.who)):
        with team.transactions.begin(act.who, voice=voice) as session:
            assert f"task:{act.do(session)}" == subject
    with pytest.raises(Refused, match="subject"), team.transactions.begin(act.who, voice=once) as session:
        do(session, slug="other")
    assert stated(team, subject) == [(act.who, act.action, act.choice, "signed", None)]
    # Its nonce serves for no other either.
    again = json.loads(once.signed.text) | {"subject": f"task:{uuid.uuid4()}"}
    used = {field: again[field] for field in ("actor", "action", "choice", "subject", "at", "nonce")}
    named = fixed_id("task", json.dumps(["project", act.who, "other"]))
    draft = Draft(**used | {"subject": f"task:{named}", "content_sha256": content_sha256({**act.content, "slug": "other"})})
    with pytest.raises(Refused, match="used already"), team.transactions.begin(act.who, voice=by_hand(getattr(team, act.who), draft)) as session:
        do(session, slug="other")


def test_a_role_is_stated_once_for_each_time_that_it_is_assigned(team: Team) -> None:
    subject = ready(team, ACTS["hand a task on"])
    for agent in ("bob", "bob", "dan"):
        with team.transactions.begin("ada", voice=team.signs("ada")) as session:
            _designate(session, "build", None, None, agent=agent)
    assert stated(team, subject) == [("ada", "role.assign", "assign", "signed", None)] * 2
    told = team.rows("SELECT type FROM events WHERE type IN ('statement.made', 'task.handed_over', 'role.assigned') ORDER BY sequence")
    assert [type_ for (type_,) in told] == ["statement.made", "task.handed_over", "role.assigned"] * 2


def test_a_task_that_follows_of_a_message_is_attested_where_the_message_was_signed(team: Team) -> None:
    body = {"type": "modify", "target": "cache", "requires_approval": True}
    attesting = Transactions(team.transactions.engine, team.transactions._publisher, service=team.transactions.service, voice=team.signs("door"))
    about = {**FINDING, "to": None, "message_type": "action", "content_sha256": sha256(b"Restart it").hexdigest()}
    about["body_sha256"] = sha256(b'{"requires_approval":true,"target":"cache","type":"modify"}').hexdigest()
    said = signed(team, Act("message.send", ready=str, do=str, content=about), f"message:{NOTE}")
    for voice, mode in ((said, "attested"), (team.signs("bob"), "signed")):
        with attesting.begin("bob", voice=voice) as session:
            actions.send(session, "Restart it", message_type="action", conversation_id="project", body=body, slug="note")
            event_log.write(session)
            told = session.execute(text("SELECT action, mode FROM statements ORDER BY action")).all()
            assert [tuple(one) for one in told] == [("message.send", "signed"), ("task.delegate", mode)]
            session.rollback()


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
