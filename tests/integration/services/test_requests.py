"""A request is put to one, to a role, or to whoever can do it; the first success is its answer, and what nobody can do waits for who can."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from federation.errors import Conflict, FederationError, InvalidInput, NotFound, Refused
from federation.services import cop, history, inboxes, messages, requests
from federation.transaction import Transactions

ASKED = {"message_type": "request"}


def ask(transactions: Transactions, who: str = "ada", content: str = "What is the error rate?", **options: Any) -> messages.Sent:
    with transactions.begin(who) as session:
        return messages.send(session, content, **ASKED, **options)


def answer(transactions: Transactions, who: str, request: UUID, content: str = "5 %", **body: Any) -> messages.Sent:
    with transactions.begin(who) as session:
        return messages.send(session, content, message_type="response", reply_to=request, body=body)


def can(transactions: Transactions, who: str, *names: str) -> None:
    with transactions.begin(who) as session:
        cop.update_state(session, "Here", able=names)


def unread(transactions: Transactions, who: str) -> list[str]:
    with transactions.begin(who) as session:
        return [message.content for message in inboxes.inbox(session).messages]


def found(transactions: Transactions, request: UUID, who: str = "ada") -> requests.Answer | None:
    with transactions.begin(who) as session:
        return requests.answer(session, request)


def test_an_answer_goes_to_who_asked_alone_and_is_read_once(transactions: Transactions) -> None:
    asked = ask(transactions, to="bob", conversation_id="project-123")
    assert asked.recipients == ["bob"]
    assert found(transactions, asked.message_id) is None
    answer(transactions, "bob", asked.message_id, status="success", result={"rate": 0.05})
    got = found(transactions, asked.message_id)
    assert got is not None
    assert (got.status, got.sender, got.content, got.result) == ("success", "bob", "5 %", {"rate": 0.05})
    assert unread(transactions, "ada") == [], "who waited for it has read it"
    assert found(transactions, asked.message_id) == got, "and may read it again by its handle"


def test_a_plain_reply_to_a_request_is_its_answer(transactions: Transactions) -> None:
    asked = ask(transactions, to="bob")
    with transactions.begin("bob") as session:
        messages.send(session, "5 %", reply_to=asked.message_id)
        messages.send(session, "and falling", reply_to=asked.message_id)
    got = found(transactions, asked.message_id)
    assert got is not None
    assert (got.status, got.content) == ("success", "5 %")
    assert unread(transactions, "ada") == ["and falling"]


def test_a_message_to_a_role_reaches_that_role_and_no_other_can_see_it(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        sent = messages.send(session, "developers only", to="role:developer")
    assert sent.recipients == ["bob", "dan"]
    seen = {}
    for name in ("ada", "bob", "dan", "eve"):
        with transactions.begin(name) as session:
            # As a query that somebody forgot a condition in.
            rows = session.scalars(text("SELECT content FROM messages")).all()
            assert [said.content for said in history.page(session, "commons").messages] == rows
            seen[name] = len(rows)
    assert seen == {"ada": 1, "bob": 1, "dan": 1, "eve": 0}
    with pytest.raises(NotFound, match="no message"), transactions.begin("eve") as session:
        messages.send(session, "I heard that", reply_to=sent.message_id)
    with transactions.begin("bob") as session:
        assert messages.send(session, "understood", reply_to=sent.message_id).recipients == ["ada"]
    with transactions.begin("service:beat") as session:
        assert session.scalar(text("SELECT unsummarised FROM conversations WHERE id = 'commons'")) == 0, "not what all heard"


def test_a_role_is_that_of_members_where_there_are_members(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "come in", to="bob", conversation_id="project-123")
        assert messages.send(session, "you there", to="role:developer", conversation_id="project-123").recipients == ["bob"]
        lonely = messages.send(session, "anybody?", to="role:analyst", conversation_id="project-123")
    assert lonely.recipients == []
    assert lonely.waiting_for == "nobody of the role analyst is in project-123; who comes later finds it in the history only"


@pytest.mark.parametrize(
    ("to", "error", "says"),
    [
        ("role:developers", NotFound, "no role 'developers'; nearest: developer"),
        ("any", InvalidInput, "to: got 'any', wants with any, a capability"),
        ("capability:", InvalidInput, "to: got ''"),
        ("bobb", NotFound, "no agent 'bobb'; nearest: bob"),
    ],
)
def test_whom_nobody_is_is_named(transactions: Transactions, to: str, error: type[FederationError], says: str) -> None:
    with pytest.raises(error, match=says), transactions.begin("ada") as session:
        messages.send(session, "x", to=to)


def test_any_who_can_is_asked_and_the_first_success_is_the_answer(transactions: Transactions) -> None:
    for name in ("bob", "dan"):
        can(transactions, name, "analyze_logs", "query_metrics")
    asked = ask(transactions, to="any", body={"capability": "analyze_logs", "parameters": {"since": "10:15"}})
    assert asked.recipients == ["bob", "dan"]
    answer(transactions, "bob", asked.message_id, status="failure")
    assert found(transactions, asked.message_id) is None, "another may know it"
    answer(transactions, "dan", asked.message_id, "5 %")
    got = found(transactions, asked.message_id)
    assert got is not None
    assert (got.status, got.sender) == ("success", "dan")
    with pytest.raises(Conflict, match=f"dan has answered request {asked.message_id}"):
        answer(transactions, "bob", asked.message_id, "6 %")


def test_when_all_failed_the_failure_is_the_answer(transactions: Transactions) -> None:
    for name in ("bob", "dan"):
        can(transactions, name, "analyze_logs")
    asked = ask(transactions, to="capability:analyze_logs")
    for name in ("dan", "bob"):
        answer(transactions, name, asked.message_id, f"{name} has no logs", status="failure")
    got = found(transactions, asked.message_id)
    assert got is not None
    assert (got.status, got.content) == ("failure", "bob has no logs")


def test_of_many_who_answer_at_once_one_does(transactions: Transactions) -> None:
    for name in ("bob", "dan", "eve"):
        can(transactions, name, "analyze_logs")
    asked = ask(transactions, to="capability:analyze_logs")

    def race(name: str) -> bool:
        try:
            answer(transactions, name, asked.message_id, name)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(race, ["bob", "dan", "eve"] * 2))
    assert sum(won) == 1
    with transactions.begin("ada") as session:
        page = history.page(session, "commons").messages
    assert [message.position for message in page] == [1, 2], "a position that was taken for nothing was given back"
    assert [message.sender for message in page if message.message_type == "response"] == [["bob", "dan", "eve"][won.index(True) % 3]]


def test_what_nobody_can_do_waits_and_says_why_until_somebody_can(transactions: Transactions) -> None:
    asked = ask(transactions, to="any", body={"capability": "check_deployment"})
    assert asked.recipients == []
    assert asked.waiting_for is not None
    assert asked.waiting_for.startswith("nobody in commons says that he can check_deployment")
    with transactions.begin("ada") as session:
        assert requests.waits_for(session, asked.message_id) == asked.waiting_for
    can(transactions, "ada", "check_deployment")
    can(transactions, "eve", "check_deployment")
    assert unread(transactions, "eve") == ["What is the error rate?"]
    can(transactions, "eve", "check_deployment", "fly")
    assert unread(transactions, "eve") == ["What is the error rate?"], "put into an inbox once"
    with transactions.begin("ada") as session:
        assert requests.waits_for(session, asked.message_id) == "the answer of eve"
    answer(transactions, "eve", asked.message_id, "deployed at 10:15")
    can(transactions, "bob", "check_deployment")
    assert unread(transactions, "bob") == [], "it is answered"


def test_who_is_brought_in_later_is_asked_what_he_can_do(transactions: Transactions) -> None:
    can(transactions, "dan", "analyze_logs")
    asked = ask(transactions, to="any", conversation_id="project-123", body={"capability": "analyze_logs"})
    assert asked.recipients == [], "dan is no member"
    with transactions.begin("ada") as session:
        messages.send(session, "come in", to="dan", conversation_id="project-123")
    assert unread(transactions, "dan") == ["come in", "What is the error rate?"]


def test_who_was_not_asked_does_not_answer(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "come in", to="dan", conversation_id="project-123")
    can(transactions, "bob", "analyze_logs")
    asked = ask(transactions, to="any", body={"capability": "analyze_logs"})
    with pytest.raises(Refused, match="A request is answered by whom it was put to: this one was put to capability:analyze_logs"):
        answer(transactions, "eve", asked.message_id)
    with pytest.raises(NotFound, match="no request"):
        found(transactions, asked.message_id, "bob")
    chat = ask(transactions, to="bob").message_id
    with pytest.raises(NotFound, match="no message"):
        answer(transactions, "eve", chat)
    with transactions.begin("ada") as session:
        said = messages.send(session, "hello", to="bob").message_id
    with pytest.raises(InvalidInput, match=r"reply_to: got .*, wants a request, and this is a chat"):
        answer(transactions, "bob", said)
    with pytest.raises(InvalidInput, match="reply_to: got None, wants the message_id of the request"), transactions.begin("bob") as session:
        messages.send(session, "5 %", message_type="response")
    with pytest.raises(Conflict, match=r"you answered request .* before"):
        for _ in range(2):
            answer(transactions, "bob", chat, status="failure")


def test_an_answer_under_its_name_may_be_repeated(transactions: Transactions) -> None:
    asked = ask(transactions, to="bob", slug="rate")
    assert ask(transactions, to="bob", slug="rate") == asked
    sent = []
    for _ in range(2):
        with transactions.begin("bob") as session:
            sent.append(messages.send(session, "5 %", reply_to=asked.message_id, message_type="response", slug="my-answer").message_id)
        with transactions.begin("bob") as session:
            # The same again, where its kind is left to be found out.
            sent.append(messages.send(session, "5 %", reply_to=asked.message_id, slug="my-answer").message_id)
    assert len(set(sent)) == 1


def test_nobody_puts_into_anothers_inbox_what_is_not_for_him(transactions: Transactions) -> None:
    can(transactions, "dan", "analyze_logs")
    asked = ask(transactions, to="any", conversation_id="project-123", body={"capability": "analyze_logs"})
    with transactions.begin("ada") as session:
        messages.send(session, "come in", to="bob", conversation_id="project-123")
    put = text("INSERT INTO message_receipts (agent, position, message_id) VALUES (:name, federation_next_position('inbox:' || :name), :id)")
    for name in ("dan", "eve", "bob"):  # one who can and is no member, one who cannot and is none, and a member who cannot
        with pytest.raises(ProgrammingError, match="row-level security"), transactions.begin("bob") as session:
            session.execute(put, {"name": name, "id": asked.message_id})
    with pytest.raises(ProgrammingError, match="row-level security"), transactions.begin("eve") as session:
        session.execute(text("INSERT INTO agent_capabilities (agent, capability) VALUES ('bob', 'fly')"))
