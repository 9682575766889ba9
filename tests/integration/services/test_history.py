"""Any mixture of senders, addresses and cursors: positions without gaps, each message once and in order for its readers, and pages that meet."""

import itertools
import uuid
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from federation.errors import InvalidInput, NotFound
from federation.services import history, inboxes, messages, requests
from federation.store.models.conversations import Message
from federation.store.models.statements import SignedStatement
from federation.transaction import Transactions
from tests.integration.services.stating import Team

NAMES = ("ada", "bob", "dan", "eve")
ROLES = {"ada": "lead", "bob": "developer", "dan": "developer", "eve": "analyst"}
TO = st.sampled_from([*NAMES, None, "role:developer", "role:lead"])
STEP = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(NAMES), TO),
    st.tuples(st.just("read"), st.sampled_from(NAMES), st.integers(1, 4)),
    st.tuples(st.just("crash"), st.sampled_from(NAMES), st.integers(1, 4)),
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEP, max_size=25), page=st.integers(1, 5))
def test_each_reader_gets_each_message_once_and_in_order(transactions: Transactions, steps: list[tuple[str, str, Any]], page: int) -> None:
    where = f"c{uuid.uuid4().hex}"
    with transactions.begin("ada") as session:
        for name in NAMES:
            messages.send(session, f"{where} come in", to=name, conversation_id=where)
    for name in NAMES:
        _drain(transactions, name)
    said: list[tuple[str, str, str | None]] = []
    expected, got = defaultdict(list), defaultdict(list)
    for kind, who, what in steps:
        with transactions.begin(who) as session:
            if kind == "send":
                content = f"{len(said)}"
                messages.send(session, content, to=what, conversation_id=where)
                said.append((content, who, what))
                for name in _readers(who, what):
                    expected[name].append(content)
            else:
                inbox = inboxes.inbox(session, limit=what)
                if kind == "read":
                    got[who] += [message.content for message in inbox.messages]
                    inboxes.inbox(session, after=inbox.cursor, limit=1)
    for name in NAMES:
        got[name] += _drain(transactions, name)
    assert got == {name: expected[name] for name in got}
    for name in NAMES:
        with transactions.begin(name) as session:
            forward, backward = _pages(session, where, page, forward=True), _pages(session, where, page, forward=False)
        assert forward == backward
        positions = [position for position, _ in forward]
        assert positions == sorted(set(positions))
        visible = [content for content, sender, to in said if name == sender or name in _readers(sender, to)]
        assert [content for _, content in forward if not content.endswith("come in")] == visible
    with transactions.begin("service:test") as session:
        everything = session.scalars(select(Message.position).where(Message.conversation_id == where)).all()
        assert sorted(everything) == list(range(1, len(said) + len(NAMES) + 1))


def _readers(sender: str, to: str | None) -> list[str]:
    if to in NAMES:
        return [str(to)]
    return [name for name in NAMES if name != sender and (to is None or ROLES[name] == to.removeprefix("role:"))]


def _drain(transactions: Transactions, name: str) -> list[str]:
    found: list[str] = []
    with transactions.begin(name) as session:
        inbox = inboxes.inbox(session)
        while inbox.messages:
            found += [message.content for message in inbox.messages]
            inbox = inboxes.inbox(session, after=inbox.cursor)
    return found


def _pages(session: Any, where: str, limit: int, *, forward: bool) -> list[tuple[int, str]]:
    """Return all that a reader sees, page by page from one end to the other."""
    pages: list[list[tuple[int, str]]] = []
    edge: dict[str, int] = {"after": 0} if forward else {}
    while True:
        page = history.page(session, where, limit=limit, **edge)
        if page.messages:
            pages.append([(message.position, message.content) for message in page.messages])
            edge = {"after": pages[-1][-1][0]} if forward else {"before": pages[-1][0][0]}
        if not page.more:
            return list(itertools.chain.from_iterable(pages if forward else reversed(pages)))


def test_a_thread_is_read_alone(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        first = messages.send(session, "Which auth approach?", conversation_id="project-123", to="bob")
        messages.send(session, "Lunch?", conversation_id="project-123")
    with transactions.begin("bob") as session:
        messages.send(session, "OAuth2", reply_to=first.message_id)
        thread = history.page(session, "project-123", thread=first.correlation_id).messages
    assert [message.content for message in thread] == ["Which auth approach?", "OAuth2"]


def test_a_sender_sees_who_has_read_his_messages_and_nobody_elses(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "noon")
    for name in ("bob", "dan"):
        _drain(transactions, name)
    with transactions.begin("ada") as session:
        [own] = history.page(session, "commons").messages
    with transactions.begin("bob") as session:
        [others] = history.page(session, "commons").messages
    assert (own.read_by, own.unread_by) == (["bob", "dan"], 1)
    assert (others.read_by, others.unread_by) == (None, None)


def test_the_latest_come_first_and_long_ones_fewer_at_a_time(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        for number in range(4):
            messages.send(session, f"{number}" + "x" * 70_000, conversation_id="project-123")
        page = history.page(session, "project-123", limit=3)
    assert ([message.content[0] for message in page.messages], page.more) == (["2", "3"], True)


def test_who_may_read_a_message_sees_whether_its_senders_own_key_signed_it(team: Team) -> None:
    said = {"by my key": team.signs("ada"), "by the door": team.signs("door"), "by nobody": None}
    for content, voice in said.items():
        with team.transactions.begin("ada", voice=voice) as session:
            asked = messages.send(session, content, to="bob", conversation_id="secret", message_type="request")
    with team.transactions.begin("bob", voice=team.signs("bob")) as session:
        messages.send(session, "yes", reply_to=asked.message_id)
    expected = {"by my key": True, "by the door": False, "by nobody": None}
    with team.transactions.begin("bob") as session:
        assert {message.content: message.signed for message in inboxes.inbox(session).messages} == expected
    with team.transactions.begin("ada") as session:
        answer = requests.answer(session, asked.message_id)
        assert answer is not None
        assert answer.signed
    for name in ("ada", "bob", "cli:root"):
        with team.transactions.begin(name) as session:
            told = {message.content: message.signed for message in history.page(session, "secret").messages}
        assert told == expected | {"yes": True}, name
    with team.transactions.begin("dan") as session:
        assert session.scalars(select(SignedStatement.actor)).all() == []


def test_an_operator_reads_what_is_between_two_and_is_told_what_there_is(transactions: Transactions) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "between us", to="bob")
    with transactions.begin("cli:root") as session:
        assert [message.content for message in history.page(session, "direct:ada:bob").messages] == ["between us"]
        with pytest.raises(NotFound, match="nearest: direct:ada:bob"):
            history.page(session, "direct:ada:bib")


def test_two_directions_at_once_are_refused(transactions: Transactions) -> None:
    with pytest.raises(InvalidInput, match="before"), transactions.begin("ada") as session:
        history.page(session, "commons", after=1, before=3)
    with transactions.begin("ada") as session:
        messages.send(session, "between us", to="bob")
    with pytest.raises(NotFound), transactions.begin("eve") as session:
        history.page(session, "direct:ada:bob")
