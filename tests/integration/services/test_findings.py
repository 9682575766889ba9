"""Findings: checked by field, numbered for their readers, never changed; hypotheses weighed and decided on once; a query is run once and shared."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import IntegrityError

from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import board, findings, inboxes, resource_claims, sessions
from federation.services.board import HypothesisView, Verdict
from federation.services.confidence import Judgement, aggregated
from federation.services.findings import Posted, Said
from federation.services.sessions import Start
from federation.store import event_log
from federation.store.models.sessions import AgentFinding
from federation.transaction import Transactions

NAME = "INC-1234"
RATE = {"source": "prometheus", "query": "rate(errors[5m])", "result": "0.05"}
SEEN = {"content": "error rate spike correlates with deploy", "category": "observation"}


class Room:
    """A session that all four have joined, and what they do in it."""

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions
        for name in ("ada", "bob", "dan", "eve"):
            with transactions.begin(name) as session:
                start = Start(context={"task": "look"}, expertise={"dan": 3.0}) if name == "ada" else Start()
                sessions.join(session, NAME, start)

    def post(self, who: str, *, slug: str | None = None, **said: Any) -> Posted:
        with self.transactions.begin(who) as session:
            return findings.post(session, NAME, Said(**SEEN | said), slug=slug)

    def suppose(self, who: str, confidence: float = 0.7, **said: Any) -> uuid.UUID:
        return self.post(who, content="pool exhaustion", category="hypothesis", confidence=confidence, **said).finding.id

    def page(self, who: str, **asked: Any) -> tuple[list[AgentFinding], bool]:
        with self.transactions.begin(who) as session:
            return findings.page(session, sessions.find(session, NAME), **asked)

    def hypotheses(self) -> list[HypothesisView]:
        with self.transactions.begin("eve") as session:
            return board.hypotheses(session, sessions.find(session, NAME))


@pytest.fixture
def room(transactions: Transactions) -> Room:
    return Room(transactions)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"confidence": 1.1}, "confidence: got 1.1, wants less than or equal to 1"),
        ({"confidence": -0.1}, "confidence: got -0.1, wants greater than or equal to 0"),
        ({"confidence": float("nan")}, "confidence: got nan"),
        ({"category": "guess"}, "category: got 'guess', wants 'observation', 'hypothesis' or 'conclusion'"),
        ({"content": " "}, "content: got ' ', wants a text that is not empty"),
        ({"evidence": [{"query": "x"}]}, "evidence.0.source: got None"),
        ({"evidence": [RATE, {"source": "x", "querry": "y"}]}, "evidence.1.querry: got 'y', wants no such field in a finding; nearest: query"),
        ({"category": "hypothesis"}, "confidence: got None, wants how sure you are of the hypothesis"),
        ({"validates": True}, "hypothesis_id: got None"),
        ({"validates": True, "hypothesis_id": uuid.UUID(int=1)}, "category: got 'observation', wants conclusion"),
        ({"validates": False, "hypothesis_id": uuid.UUID(int=1), "category": "conclusion"}, "evidence: got [], wants what it rests on"),
        ({"category": "hypothesis", "confidence": 0.5, "hypothesis_id": uuid.UUID(int=1)}, "hypothesis_id: got '00000000"),
    ],
)
def test_what_does_not_fit_is_named_by_its_field(room: Room, said: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        room.post("bob", **said)
    assert str(refused.value).startswith(says)
    assert room.page("bob") == ([], False)


def test_the_table_too_refuses_what_no_finding_can_be(room: Room) -> None:
    hypothesis = room.suppose("bob")
    for columns in (
        {"confidence": 1.1},
        {"finding_type": "hypothesis", "confidence": None},
        {"validates": True, "hypothesis_id": hypothesis},
        {"hypothesis_id": uuid.uuid4()},
        {"position": 1},
    ):
        with pytest.raises((IntegrityError, Conflict)), room.transactions.begin("bob") as session:
            found = sessions.find(session, NAME)
            taken = event_log.advance(session, f"session:{found.id}")
            session.add(
                AgentFinding(**{"session_id": found.id, "position": taken, "finding_type": "observation", "content": {}, "trace_id": ""} | columns)
            )
            session.add(AgentFinding(session_id=found.id, position=1, finding_type="observation", content={}, trace_id=""))


def test_findings_are_append_only_for_every_role(room: Room, postgres: Any, database: str) -> None:
    room.post("bob")
    for role in ("federation_app", "federation_service", "federation_owner"):
        for statement in ("UPDATE agent_findings SET confidence = 1", "DELETE FROM agent_findings", "TRUNCATE agent_findings CASCADE"):
            with psycopg.connect(postgres.as_role(role, database)) as connection, pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


def test_a_reader_gets_each_finding_once_in_order_however_many_post(room: Room) -> None:
    read: list[tuple[int, uuid.UUID]] = []

    def look() -> None:
        page, _ = room.page("eve", after=read[-1][0] if read else 0, limit=5)
        read.extend((one.position, one.id) for one in page)

    with ThreadPoolExecutor(6) as pool:
        posting = [pool.submit(room.post, ("bob", "dan", "ada")[number % 3], content=f"{number}") for number in range(45)]
        while not all(each.done() for each in posting):
            look()
        posted = {each.result().finding.id for each in posting}
    while len(read) < 45:
        before = len(read)
        look()
        assert len(read) > before
    assert {identity for _, identity in read} == posted
    assert read == sorted(read)


def test_pages_hold_what_an_answer_holds(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        room.post("bob", content=f"{number}", category="conclusion" if number == 3 else "observation")
    page, more = room.page("dan", limit=3)
    assert ([one.content["text"] for one in page], more) == (["0", "1", "2"], True)
    page, more = room.page("dan", after=page[-1].position)
    assert ([one.content["text"] for one in page], more) == (["3"], False)
    assert [one.content["text"] for one in room.page("dan", category="conclusion")[0]] == ["3"]
    monkeypatch.setattr(inboxes, "LARGEST_INBOX_BYTES", 1_200)
    page, more = room.page("dan")
    assert ([one.content["text"] for one in page], more) == (["0", "1"], True)
    monkeypatch.setattr(inboxes, "LARGEST_INBOX_BYTES", 1)
    assert [one.content["text"] for one in room.page("dan")[0]] == ["0"], "one that is longer comes alone"


def test_posted_again_under_its_name_it_is_one_finding(room: Room) -> None:
    first = room.post("bob", slug="errors-1", evidence=[RATE])
    assert room.post("bob", slug="errors-1", evidence=[RATE]).finding.id == first.finding.id
    with pytest.raises(Conflict, match="you posted another finding as 'errors-1'"):
        room.post("bob", slug="errors-1", evidence=[RATE], confidence=0.5)
    assert room.post("dan", slug="errors-1").finding.id != first.finding.id, "a name is its author's"
    assert len(room.page("eve")[0]) == 2


def test_a_hypothesis_is_weighed_by_all_that_speaks_for_it(room: Room) -> None:
    hypothesis, other = room.suppose("bob", 0.6), room.suppose("ada", 0.3)
    room.post("dan", hypothesis_id=hypothesis, confidence=0.9, evidence=[RATE, {"source": "logs"}])
    room.post("eve", hypothesis_id=hypothesis)
    likeliest, least = room.hypotheses()
    weights = {"bob": 1.0, "dan": 3.0}
    expected = aggregated([Judgement("bob", "hypothesis", 0.6, 0), Judgement("dan", "observation", 0.9, 2)], lambda agent, _: weights[agent])
    assert (likeliest.hypothesis_id, likeliest.confidence, likeliest.proposed_with, likeliest.findings) == (hypothesis, expected, 0.6, 2)
    assert expected == pytest.approx((0.6 * 0.5 + 0.9 * 3 * 0.7) / (0.5 + 3 * 0.7))
    assert (least.hypothesis_id, least.confidence, least.state) == (other, 0.3, Verdict.PROPOSED)


def test_of_a_long_hypothesis_its_beginning_is_listed_and_of_many_the_likeliest(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_MOST_SHOWN", 2)
    monkeypatch.setattr(board, "_LONGEST", 4)
    for number in range(3):
        room.post("bob", content=f"{number}2345", category="hypothesis", confidence=number / 10)
    assert [(one.description, one.confidence) for one in room.hypotheses()] == [("2234…", 0.2), ("1234…", 0.1)]


def test_who_is_sure_that_it_is_refuted_makes_it_less_likely(room: Room) -> None:
    hypothesis = room.suppose("bob", 0.6)
    room.post("ada", category="conclusion", hypothesis_id=hypothesis, validates=False, confidence=0.9, evidence=[RATE] * 5)
    [found] = room.hypotheses()
    assert (found.state, found.validated_by) == (Verdict.REFUTED, "ada")
    assert found.confidence == pytest.approx((0.6 * 0.5 + 0.1 * 1.0) / 1.5)


def test_another_confirms_or_refutes_it_once(room: Room) -> None:
    hypothesis = room.suppose("bob")
    about = {"category": "conclusion", "hypothesis_id": hypothesis, "evidence": [RATE]}
    with pytest.raises(Refused, match=r"Propose before you implement: hypothesis .* is your own: another confirms or refutes it"):
        room.post("bob", **about, validates=True)
    room.post("bob", **about)

    def decide(who: str) -> bool:
        try:
            room.post(who, **about, validates=who != "eve")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        won = dict(zip(("ada", "dan", "eve"), pool.map(decide, ("ada", "dan", "eve")), strict=True))
    [found] = room.hypotheses()
    assert sum(won.values()) == 1
    with pytest.raises(Conflict, match=rf"hypothesis {hypothesis} was (confirmed|refuted) by {found.validated_by} already; leave out validates"):
        room.post("ada", **about, validates=True)
    assert won[found.validated_by or ""]
    assert found.state is (Verdict.REFUTED if found.validated_by == "eve" else Verdict.CONFIRMED)


def test_a_finding_is_about_a_hypothesis_of_its_own_session(room: Room, transactions: Transactions) -> None:
    observation = room.post("bob").finding.id
    with transactions.begin("bob") as session:
        sessions.join(session, "INC-2", Start(context={}))
        other = findings.post(session, "INC-2", Said(content="x", category="hypothesis", confidence=1)).finding.id
    for wrong in (observation, other, uuid.uuid4()):
        with pytest.raises(NotFound, match=f"no hypothesis '{wrong}'"):
            room.post("dan", hypothesis_id=wrong)
        with pytest.raises(NotFound, match=f"no hypothesis '{wrong}'"):
            room.page("dan", hypothesis_id=wrong)


def test_what_is_about_a_hypothesis_is_read_together(room: Room) -> None:
    hypothesis = room.suppose("bob")
    about = room.post("dan", hypothesis_id=hypothesis).finding.id
    room.post("eve")
    assert [one.id for one in room.page("ada", hypothesis_id=hypothesis)[0]] == [hypothesis, about]


def test_a_query_that_was_run_is_found_and_shared(room: Room) -> None:
    first = room.post("bob", evidence=[{"source": "logs"}, RATE])
    assert first.duplicates == []
    again = room.post("dan", evidence=[{**RATE, "query": "  rate(errors[5m])\n", "result": "0.06"}, {"source": "logs", "query": "x"}])
    [duplicate] = again.duplicates
    assert (duplicate.source, duplicate.query, duplicate.agent, duplicate.result) == ("prometheus", "rate(errors[5m])", "bob", "0.05")
    assert duplicate.finding_id == first.finding.id
    found, _ = room.page("eve", query=("prometheus", "rate(errors[5m])"))
    assert [one.id for one in found] == [first.finding.id, again.finding.id]
    long = [{"source": "logs", "query": "y", "result": "x" * 3000}]
    room.post("ada", evidence=long)
    assert room.post("eve", evidence=long).duplicates[0].result is None, "what is long is read where it stands"
    for other in (("loki", "rate(errors[5m])"), ("prometheus", "rate(errors[1m])"), ("prometheus", "RATE(errors[5m])")):
        assert room.page("eve", query=other) == ([], False)


def test_of_many_who_want_to_run_a_query_one_does_and_all_have_what_came_of_it(room: Room, transactions: Transactions) -> None:
    ran: list[str] = []
    asked = ("prometheus", "rate(errors[5m])")

    def investigate(who: str) -> Any:
        while True:
            found, _ = room.page(who, query=asked)
            if found:
                return found[0].evidence[0]["result"]
            with transactions.begin(who) as session:
                name = findings.resource(sessions.find(session, NAME), *asked).name
                claimed = resource_claims.take(session, name, ttl_s=60).claimed
            # Somebody may have posted it between the look and the claim.
            if claimed and room.page(who, query=asked)[0]:
                with transactions.begin(who) as session:
                    resource_claims.give_back(session, name)
            elif claimed:
                ran.append(who)
                room.post(who, evidence=[RATE])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(investigate, ("ada", "bob", "dan", "eve")))
    assert results == ["0.05"] * 4
    assert len(ran) == 1
    with transactions.begin("eve") as session:
        assert resource_claims.listed(session).claims == [], "posting has given it back"


def test_only_ones_own_claim_is_given_back(room: Room, transactions: Transactions) -> None:
    with transactions.begin("dan") as session:
        name = findings.resource(sessions.find(session, NAME), RATE["source"], RATE["query"]).name
        assert resource_claims.take(session, name, ttl_s=60).claimed
    room.post("bob", evidence=[RATE])
    with transactions.begin("eve") as session:
        assert [one.holder for one in resource_claims.listed(session).claims] == ["dan"]


def test_the_claim_of_a_query_tells_nothing_of_its_session(room: Room, transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        sessions.join(session, "INC-5678", Start(context={"task": "look"}))
        first, second = sessions.find(session, NAME), sessions.find(session, "INC-5678")
        names = {findings.resource(each, RATE["source"], RATE["query"]).name for each in (first, second)}
    assert len(names) == 2
    assert not [name for name in names for each in (first, second) if str(each.id) in name]
