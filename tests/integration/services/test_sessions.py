"""Sessions: begun once, joined by whoever sees them, added to and never overwritten, completed once; their events say all of it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import ProgrammingError

from federation.errors import Conflict, InvalidInput, NotFound, RateLimited, Refused
from federation.services import board, findings, inboxes, limits, messages, sessions
from federation.services.board import Board
from federation.services.findings import Said
from federation.services.sessions import Start
from federation.settings import Settings
from federation.store.models.sessions import AgentSession
from federation.transaction import Transactions

TASK = {"task": "investigate incident INC-1234"}
SEEN = Said(content="deployment v1.2.3 at 10:15 UTC", category="observation", confidence=0.9)


def join(transactions: Transactions, who: str, name: str = "INC-1234", *, focus: str | None = None, where: str | None = None, **start: Any) -> Board:
    with transactions.begin(who) as session:
        return board.board(session, sessions.join(session, name, Start(**start), focus=focus, conversation_id=where))


def post(transactions: Transactions, who: str, said: Said = SEEN, *, name: str = "INC-1234", **more: Any) -> findings.Posted:
    with transactions.begin(who) as session:
        return findings.post(session, name, said, **more)


def told(database: str) -> list[tuple[str, str, dict[str, Any]]]:
    with psycopg.connect(database) as connection:
        return connection.execute("SELECT type, actor, payload FROM events WHERE stream LIKE 'session:%' ORDER BY sequence").fetchall()


def test_it_is_begun_by_the_first_who_says_what_it_is_about(transactions: Transactions, database: str) -> None:
    with pytest.raises(NotFound, match="no session 'INC-1234'; there is no session yet"):
        join(transactions, "bob")
    begun = join(transactions, "ada", context=TASK, focus="error patterns")
    assert (begun.slug, begun.initiator, begun.context, begun.status, begun.conversation_id) == ("INC-1234", "ada", TASK, "active", "commons")
    joined = join(transactions, "bob", focus="deployments")
    assert [(one.agent, one.focus) for one in joined.participants] == [("ada", "error patterns"), ("bob", "deployments")]
    # Again, and the same again with its context: nothing happens.
    before = told(database)
    assert join(transactions, "bob").session_id == join(transactions, "ada", context=TASK).session_id == begun.session_id
    assert told(database) == before
    join(transactions, "bob", focus="rollback")
    assert [one.focus for one in join(transactions, "eve").participants] == ["error patterns", "rollback", ""]
    assert [type_ for type_, _, _ in told(database)] == ["session.started", *["session.joined"] * 4]


def test_of_many_who_begin_at_once_one_does(transactions: Transactions, database: str) -> None:
    names = ["ada", "bob", "dan", "eve"] * 3
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(lambda numbered: join(transactions, numbered[1], context={**TASK, f"by {numbered[0]}": True}), enumerate(names)))
    assert len({one.session_id for one in found}) == 1
    last = join(transactions, "ada")
    assert len(last.context) == 13
    assert {one.agent for one in last.participants} == {"ada", "bob", "dan", "eve"}
    assert [type_ for type_, _, _ in told(database)].count("session.started") == 1


def test_context_is_added_and_never_overwritten(transactions: Transactions, database: str) -> None:
    join(transactions, "ada", context=TASK)
    assert join(transactions, "bob", context={"severity": "high"}).context == {**TASK, "severity": "high"}
    with pytest.raises(Conflict, match="says something else of severity"):
        join(transactions, "eve", context={"severity": "low", "new": True})
    assert join(transactions, "eve").context == {**TASK, "severity": "high"}
    with psycopg.connect(database) as connection, pytest.raises(errors.InsufficientPrivilege, match="only context is added"):
        connection.execute("SELECT set_config('federation.actor', 'test:hand', true)")
        connection.execute("UPDATE agent_sessions SET context = '{}'")


def test_voters_and_weights_are_said_once_by_who_may_decide(transactions: Transactions, database: str) -> None:
    with pytest.raises(Refused, match=r"bob, of the role developer, may not decide on tasks that await approval.*leave voters out"):
        join(transactions, "bob", context=TASK, voters=["bob"])
    for bad, says in (([], "voters: got"), (["nobody"], "no agent 'nobody'")):
        with pytest.raises((InvalidInput, NotFound), match=says):
            join(transactions, "ada", context=TASK, voters=bad)
    for weight in ({"bob": 0.0}, {"bob": float("nan")}, {"bob": 1001.0}, {"bob:guess": 1.0}):
        with pytest.raises(InvalidInput, match="expertise: got"):
            join(transactions, "ada", context=TASK, expertise=weight)
    given = {"voters": ["dan", "bob", "bob"], "expertise": {"bob": 2.5, "bob:conclusion": 4.0}}
    begun = join(transactions, "ada", context=TASK, **given)
    assert (begun.voters, begun.expertise) == (["bob", "dan"], given["expertise"])
    assert join(transactions, "ada", **given).session_id == begun.session_id
    with pytest.raises(Conflict, match="with other voters and expertise, which do not change"):
        join(transactions, "ada", voters=["ada"], expertise={"bob": 1.0})
    with transactions.begin("eve") as session:
        found = session.get_one(AgentSession, begun.session_id)
        weights = [sessions.expertise_of(found, *who) for who in (("bob", "conclusion"), ("bob", "observation"), ("dan", "conclusion"))]
    assert weights == [4.0, 2.5, 1.0]
    with pytest.raises(ProgrammingError, match="only context is added"), transactions.begin("bob") as session:
        session.connection().exec_driver_sql("UPDATE agent_sessions SET context = '{}'")


def test_those_who_vote_or_all_members_hear_of_it(transactions: Transactions) -> None:
    join(transactions, "ada", context=TASK, voters=["bob"], where="ward")
    join(transactions, "ada", "INC-2", context=TASK)

    def heard(name: str) -> list[str]:
        with transactions.begin(name) as session:
            return [message.content.split(";")[0] for message in inboxes.inbox(session).messages]

    assert heard("bob") == ["Session INC-1234 begins", "Session INC-2 begins"]
    assert heard("dan") == ["Session INC-2 begins"]


def test_a_stranger_sees_nothing_of_it_and_a_member_all(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "come", to="bob", conversation_id="ward")
    begun = join(transactions, "ada", context=TASK, where="ward")
    post(transactions, "ada")
    for reference in ("INC-1234", str(begun.session_id)):
        assert join(transactions, "bob", reference).findings == 1
        with pytest.raises(NotFound, match="there is no session yet"):
            join(transactions, "eve", reference)
        with pytest.raises(NotFound, match="no conversation 'ward'"):
            join(transactions, "eve", reference, where="ward")
    with pytest.raises(Refused, match="eve is not a member of ward"):
        join(transactions, "eve", "INC-9", context=TASK, where="ward")
    # The name is free where it is not taken.
    assert join(transactions, "eve", context=TASK).session_id != begun.session_id
    with pytest.raises(Conflict, match="stands in several conversations"):
        join(transactions, "bob")
    with transactions.begin("eve") as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM agent_findings").scalar_one() == 0
        ended = "UPDATE agent_sessions SET status = 'completed' WHERE id = %s"
        assert session.connection().exec_driver_sql(ended, (begun.session_id,)).rowcount == 0
    with pytest.raises(ProgrammingError, match="row-level security"), transactions.begin("eve") as session:
        session.connection().exec_driver_sql("INSERT INTO agent_session_members (session_id) VALUES (%s)", (begun.session_id,))


def test_who_has_not_joined_writes_nothing(transactions: Transactions) -> None:
    join(transactions, "ada", context=TASK)
    with pytest.raises(Refused, match="bob has not joined session INC-1234: join it with swarm_join_session first"):
        post(transactions, "bob")


def test_it_is_completed_once_by_who_began_it_or_a_lead(transactions: Transactions, database: str) -> None:
    join(transactions, "bob", context=TASK)
    join(transactions, "dan")
    over = Said(content="It was the deployment", category="conclusion", confidence=0.9)
    with pytest.raises(Refused, match="ask them, or bob, who began session INC-1234"):
        post(transactions, "dan", over, completes=True)
    with pytest.raises(InvalidInput, match="category: got 'observation', wants conclusion"):
        post(transactions, "bob", completes=True)
    done = post(transactions, "bob", over, completes=True, slug="end")
    outcome = {"finding_id": str(done.finding.id), "conclusion": over.content, "confidence": 0.9}
    assert (done.session.status, done.session.outcome) == ("completed", outcome)
    assert post(transactions, "bob", over, completes=True, slug="end").finding.id == done.finding.id
    for who, work in (("dan", post), ("dan", lambda *_: join(transactions, "dan", context={"x": 1})), ("eve", lambda *_: join(transactions, "eve"))):
        with pytest.raises(Conflict, match="session INC-1234 is completed already"):
            work(transactions, who)
    assert join(transactions, "dan").outcome == outcome, "who takes part may look"
    with pytest.raises(ProgrammingError, match="stays completed"), transactions.begin("bob") as session:
        session.connection().exec_driver_sql("UPDATE agent_sessions SET status = 'active', outcome = NULL, completed_at = NULL")
    join(transactions, "bob", "INC-2", context=TASK)
    join(transactions, "ada", "INC-2")
    assert post(transactions, "ada", over, name="INC-2", completes=True).session.status == "completed", "a lead may end what others began"


def test_nothing_is_posted_after_the_end_however_many_post_while_it_is_completed(transactions: Transactions, database: str) -> None:
    for name in ("ada", "bob", "dan", "eve"):
        join(transactions, name, context=TASK)
    over = Said(content="enough", category="conclusion")

    def work(number: int) -> bool:
        try:
            post(transactions, ("bob", "dan", "eve")[number % 3]) if number != 20 else post(transactions, "ada", over, completes=True)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        posted = list(pool.map(work, range(40)))
    assert posted[20]
    types = [type_ for type_, _, _ in told(database) if type_ in {"finding.reported", "session.completed"}]
    assert types[-1] == "session.completed"
    assert types.count("finding.reported") == sum(posted)


def test_findings_count_as_messages(transactions: Transactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "settings", lambda: Settings(messages_per_minute=2))
    join(transactions, "ada", context=TASK)
    post(transactions, "ada")
    with pytest.raises(RateLimited, match="ada may send 2 messages a minute"):
        post(transactions, "ada")


def text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


UUID = text(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
SURE = {"type": "number", "minimum": 0, "maximum": 1}
# As the coordination patterns have them.
SCHEMAS: dict[str, dict[str, Any]] = {
    "session.started": {"session_id": UUID, "initiator": text(), "context": {"type": "object"}},
    "session.completed": {"session_id": UUID, "outcome": {"type": "object"}},
    "finding.reported": {
        "finding_id": UUID,
        "agent_id": text(),
        "category": text(enum=["observation", "hypothesis", "conclusion"]),
        "content": {"type": "object"},
    },
    "hypothesis.proposed": {"hypothesis_id": UUID, "agent_id": text(), "description": text(), "confidence": SURE},
    "hypothesis.validated": {"hypothesis_id": UUID, "validated_by": text(), "result": {"type": "boolean"}, "evidence": {"type": "object"}},
}


def test_payloads_are_those_of_the_patterns(transactions: Transactions, database: str) -> None:
    join(transactions, "ada", context=TASK)
    join(transactions, "bob")
    hypothesis = post(transactions, "bob", Said(content="pool exhaustion", category="hypothesis", confidence=0.7)).finding.id
    checked = Said(
        content="100 of 100", category="conclusion", confidence=0.9, hypothesis_id=hypothesis, validates=True, evidence=[{"source": "postgres"}]
    )
    post(transactions, "ada", checked)
    post(transactions, "ada", Said(content="fixed", category="conclusion"), completes=True)
    found = {type_: (actor, payload) for type_, actor, payload in told(database)}
    assert found.keys() == SCHEMAS.keys() | {"session.joined"}
    for type_, fields in SCHEMAS.items():
        actor, payload = found[type_]
        jsonschema.validate(payload, {"properties": {**fields, "version": {"const": 1}}, "required": [*fields, "version"]})
        assert payload.get("agent_id", actor) == actor
    assert found["hypothesis.validated"][1]["result"] is True
    assert found["hypothesis.proposed"][1]["hypothesis_id"] == found["hypothesis.validated"][1]["hypothesis_id"] == str(hypothesis)
