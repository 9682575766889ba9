"""Messages reach their addressees and nobody else, in order, and wait in an inbox until they are read."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import func, select

from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import history, inboxes, messages
from federation.store.models.conversations import Conversation, Message, Receipt
from federation.store.models.events import Event


def test_only_the_addressee_receives_a_direct_message(transactions) -> None:
    with transactions.begin("ada") as session:
        sent = messages.send(session, "Please review auth-module.py for security issues", to="bob", message_type="task")
    with transactions.begin("bob") as session:
        inbox = inboxes.inbox(session)
    with transactions.begin("eve") as session:
        assert inboxes.inbox(session).messages == []
    assert [(m.message_id, m.sender, m.message_type) for m in inbox.messages] == [(sent.message_id, "ada", "task")]


def test_a_message_stays_unread_until_its_cursor_comes_back(transactions) -> None:
    with transactions.begin("ada") as session:
        for number in range(3):
            messages.send(session, f"message {number}", to="bob")
    with transactions.begin("bob") as session:
        first = inboxes.inbox(session, limit=2)
    with transactions.begin("bob") as session:
        assert inboxes.inbox(session, limit=2).messages == first.messages, "a reader that crashed gets them again"
    with transactions.begin("bob") as session:
        rest = inboxes.inbox(session, after=first.cursor)
    assert first.more
    assert [m.content for m in rest.messages] == ["message 2"]
    with transactions.begin("bob") as session:
        assert inboxes.inbox(session, after=rest.cursor).messages == []
        assert session.scalar(select(func.count()).where(Receipt.agent == "bob", Receipt.read_at.is_(None))) == 0


def test_a_thread_reads_back_in_order_and_keeps_its_correlation(transactions) -> None:
    with transactions.begin("ada") as session:
        question = messages.send(session, "Which auth approach?", conversation_id="project-123", to="bob")
    with transactions.begin("bob") as session:
        messages.send(session, "OAuth2", reply_to=question.message_id, to="ada")
    with transactions.begin("ada") as session:
        thread = history.page(session, "project-123").messages
    assert [(m.position, m.content) for m in thread] == [(1, "Which auth approach?"), (2, "OAuth2")]
    assert {m.thread for m in thread} == {question.correlation_id}


def test_a_broadcast_reaches_everybody_else(transactions) -> None:
    with transactions.begin("ada") as session:
        sent = messages.send(session, "deploy at noon")
    assert sent.recipients == ["bob", "dan", "eve"]
    for name in sent.recipients:
        with transactions.begin(name) as session:
            assert [m.content for m in inboxes.inbox(session).messages] == ["deploy at noon"]


def test_positions_have_no_gaps_under_concurrent_senders(transactions) -> None:
    def say(number: int) -> None:
        with transactions.begin(["ada", "bob", "dan", "eve"][number % 4]) as session:
            messages.send(session, f"{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(say, range(40)))
    with transactions.begin("ada") as session:
        assert list(session.scalars(select(Message.position).order_by(Message.position))) == list(range(1, 41))
        assert list(session.scalars(select(Receipt.position).where(Receipt.agent == "ada").order_by(Receipt.position))) == list(range(1, 31))


def test_a_sender_that_dies_midway_reaches_nobody(transactions, publisher) -> None:
    class Died(Exception):
        pass

    with pytest.raises(Died), transactions.begin("ada") as session:
        messages.send(session, "half of a broadcast")
        raise Died
    with transactions.begin("bob") as session:
        assert inboxes.inbox(session).messages == []
    with transactions.begin("test:hand") as session:
        assert session.scalar(select(func.count()).select_from(Event).where(Event.type == "message.sent")) == 0


def test_a_stranger_neither_reads_nor_writes_a_conversation(transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "between us", conversation_id="secret", to="bob")
    with pytest.raises(NotFound, match=r"no conversation 'secret'; there is commons$"), transactions.begin("eve") as session:
        history.page(session, "secret")
    # A name that is taken cannot be hidden from who chooses it.
    with pytest.raises(Refused, match="eve is not a member of secret"), transactions.begin("eve") as session:
        messages.send(session, "me too", conversation_id="secret")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"content": " "}, InvalidInput, "content: got ' '"),
        ({"content": "x", "to": "bobb"}, NotFound, "no agent 'bobb'; nearest: bob"),
        ({"content": "x", "message_type": "shout"}, InvalidInput, "message_type: got 'shout', wants one of chat, task, result, status"),
        ({"content": "x", "conversation_id": "a b"}, InvalidInput, "conversation_id: got 'a b'"),
    ],
)
def test_bad_input_is_named(transactions, arguments: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says), transactions.begin("ada") as session:
        messages.send(session, **arguments)


def test_each_message_has_an_event_of_its_actor_in_the_same_transaction(transactions) -> None:
    with transactions.begin("ada", trace_id="ab" * 16) as session:
        sent = messages.send(session, "hello", to="bob")
    with transactions.begin("ada") as session:
        event = session.scalars(select(Event).where(Event.type == "message.sent")).one()
        assert (event.actor, event.trace_id, event.payload["message_id"]) == ("ada", "ab" * 16, str(sent.message_id))


@pytest.mark.parametrize("to", [None, "ada"])
def test_the_conversation_of_two_is_opened_by_them_alone(transactions, to: str | None) -> None:
    with pytest.raises((Refused, NotFound)), transactions.begin("eve") as session:
        messages.send(session, "planted", conversation_id="direct:ada:bob", to=to)
    with transactions.begin("ada") as session:
        messages.send(session, "between us", to="bob")
    with pytest.raises(Refused, match="between two"), transactions.begin("ada") as session:
        messages.send(session, "join us", conversation_id="direct:ada:bob", to="eve")


def test_a_private_message_is_answered_by_its_addressee_and_in_private(transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "all of you", conversation_id="project-123", to="dan")
        private = messages.send(session, "for bob alone", conversation_id="project-123", to="bob")
    with pytest.raises(NotFound), transactions.begin("dan") as session:
        messages.send(session, "I heard that", reply_to=private.message_id)
    with transactions.begin("bob") as session:
        answer = messages.send(session, "understood", reply_to=private.message_id)
    assert answer.recipients == ["ada"]


@pytest.mark.parametrize("after", [-1, 2, 10**6])
def test_a_cursor_that_was_never_handed_out_is_refused(transactions, after: int) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "the only one", to="bob")
    with pytest.raises(InvalidInput, match="after"), transactions.begin("bob") as session:
        inboxes.inbox(session, after=after)
    with transactions.begin("bob") as session:
        assert len(inboxes.inbox(session).messages) == 1


def test_a_message_sent_again_under_its_name_is_the_same_message(transactions, publisher) -> None:
    answers = []
    for _ in range(2):
        with transactions.begin("ada") as session:
            answers.append(messages.send(session, "deploy at noon", slug="deploy-note", data={"at": 12.5}))
    assert answers[0] == answers[1]
    with transactions.begin("bob") as session:
        assert [message.content for message in inboxes.inbox(session).messages] == ["deploy at noon"]
    with transactions.begin("test:hand") as session:
        assert session.scalar(select(func.count()).select_from(Event).where(Event.type == "message.sent")) == 1
        assert session.scalar(select(Conversation.unsummarised)) == 1
    with transactions.begin("ada") as session:
        assert messages.send(session, "the next").position == 2, "what was sent before took no position"


@pytest.mark.parametrize(
    ("other", "differs"),
    [({"content": "deploy at one"}, "content"), ({"message_type": "task"}, "message_type"), ({"data": {"at": 13}}, "data")],
)
def test_another_message_under_the_same_name_is_refused(transactions, other: dict, differs: str) -> None:
    said = {"content": "deploy at noon", "slug": "deploy-note"}
    with transactions.begin("ada") as session:
        messages.send(session, **said)
    with pytest.raises(Conflict, match=rf"another message as 'deploy-note' in commons \({differs} differ\)"), transactions.begin("ada") as session:
        messages.send(session, **said | other)
    with transactions.begin("ada") as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 1


def test_names_of_messages_belong_to_their_sender_and_conversation(transactions) -> None:
    sent = set()
    for sender, where in (("ada", "one"), ("bob", "two"), ("ada", "two/deploy"), ("ada", "three")):
        with transactions.begin(sender) as session:
            sent.add(messages.send(session, "x", conversation_id=where, slug="deploy").message_id)
    assert len(sent) == 4


def test_one_message_comes_of_two_calls_at_once(transactions) -> None:
    def say(_: int) -> uuid.UUID:
        with transactions.begin("ada") as session:
            return messages.send(session, "deploy at noon", slug="deploy-note").message_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(say, range(8)))) == 1
    with transactions.begin("bob") as session:
        assert len(inboxes.inbox(session).messages) == 1
        assert list(session.scalars(select(Message.position))) == [1]


@pytest.mark.parametrize("slug", [None, "named"])
def test_of_two_who_bring_somebody_in_at_once_each_does(transactions, database: str, slug: str | None) -> None:
    """Whoever sends takes the streams of a conversation in one order, with a name for his message and without."""
    with transactions.begin("ada") as session:
        messages.send(session, "hello", conversation_id="room", to="bob")

    def bring_in_another() -> None:
        with transactions.begin("bob") as session:
            messages.send(session, "welcome", conversation_id="room", to="dan", slug="named")

    with ThreadPoolExecutor(1) as other:
        with transactions.begin("ada") as session:
            messages.send(session, "welcome", conversation_id="room", to="eve", slug=slug)
            waiting = other.submit(bring_in_another)
            until_somebody_waits_for_a_lock(database)
        waiting.result(60)
    for name in ("dan", "eve"):
        with transactions.begin(name) as session:
            assert [message.content for message in inboxes.inbox(session).messages] == ["welcome"]


def until_somebody_waits_for_a_lock(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
        for _ in range(600):
            if connection.execute(waits).fetchone() == (True,):
                return
            time.sleep(0.1)
    raise AssertionError("nobody waits")
