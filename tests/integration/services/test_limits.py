"""What one agent may do in a while: counted in the database, the same for all doors, each refusal with the setting that says how much."""

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from federation.errors import FederationError, OverQuota, RateLimited, TransientError
from federation.services import announcements, approvals, cop, inboxes, inference, limits, memories, messages, retrieval, task_ends, tasks
from federation.services.approvals import Decision
from federation.settings import Settings
from federation.transaction import Transactions, connect

Limit = Callable[..., None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Sets what the operator allows."""

    def allow(**values: int) -> None:
        monkeypatch.setattr(limits, "settings", lambda: Settings(**values))

    return allow


@pytest.fixture
def another_door(transactions: Transactions, publisher: Any) -> Iterator[Transactions]:
    """Connections of another process."""
    urls = [engine.url.render_as_string(hide_password=False).replace("+psycopg", "") for engine in (transactions.engine, transactions.service)]
    engine, service = map(connect, urls)
    yield Transactions(engine, publisher, service=service)
    engine.dispose()
    service.dispose()


def later(transactions: Transactions, interval: str) -> None:
    """Let time pass, as far as what was taken can tell."""
    with transactions.begin("test:hand") as session:
        session.execute(text("UPDATE allowances SET used_until = used_until - CAST(:interval AS interval)"), {"interval": interval})


def say(opened: Transactions, who: str, what: str = "hello", **more: Any) -> messages.Sent:
    with opened.begin(who) as session:
        return messages.send(session, what, to="eve", **more)


def delegate(opened: Transactions, who: str, slug: str, **more: Any) -> Any:
    with opened.begin(who) as session:
        return tasks.delegate(session, "Look into it", slug=slug, **more)


def ask(opened: Transactions, who: str, **more: Any) -> Any:
    with opened.begin(who) as session:
        return inference.request(session, "why", **more)


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """Do all of these at the same moment, and return what each returned or was refused with."""
    gate = threading.Barrier(len(works))

    def one(work: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return work()
        except FederationError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def test_messages_beyond_the_rate_are_told_when_to_come_again(transactions: Transactions, another_door: Transactions, limit: Limit) -> None:
    limit(messages_per_minute=3)
    for number in range(3):
        say([transactions, another_door][number % 2], "ada", f"{number}")
    with pytest.raises(RateLimited, match=r"ada may send 3 messages a minute.*again in \d+ s .*FEDERATION_MESSAGES_PER_MINUTE") as refusal:
        say(another_door, "ada")
    assert isinstance(refusal.value, TransientError)
    assert 0 < refusal.value.again_in_s <= 20
    # Another agent has an allowance of its own, and who was refused has left nothing.
    say(transactions, "bob")
    with transactions.begin("eve") as session:
        assert [message.content for message in inboxes.inbox(session).messages] == ["0", "1", "2", "hello"]
    later(transactions, "20 seconds")
    say(transactions, "ada")
    with pytest.raises(RateLimited):
        say(transactions, "ada")


def test_last_message_is_one_agents_once_however_many_send_at_once(transactions: Transactions, another_door: Transactions, limit: Limit) -> None:
    limit(messages_per_minute=2)
    doors = [transactions, another_door]
    ended = at_once([lambda door=doors[number % 2], number=number: say(door, "ada", conversation_id=f"talk-{number}") for number in range(8)])
    assert [isinstance(each, RateLimited) for each in ended].count(False) == 2


def test_what_was_sent_before_under_its_name_costs_nothing(transactions: Transactions, limit: Limit) -> None:
    limit(messages_per_minute=2)
    first = say(transactions, "ada", slug="note")
    assert say(transactions, "ada", slug="note") == first
    say(transactions, "ada", "another")
    with pytest.raises(RateLimited):
        say(transactions, "ada", "one more")


RATES = [
    ("states_per_minute", lambda session: cop.update_state(session, "thinking"), "ada may tell what it is doing 3 times a minute", 60),
    ("searches_per_minute", lambda session: retrieval.request_search(session, "where"), "ada may search 3 times a minute", 60),
    ("memories_per_minute", lambda session: memories.remember(session, str(uuid.uuid4())), "ada may remember 3 things a minute", 60),
    ("indexings_per_hour", lambda session: retrieval.request_index(session, "/srv"), "ada may have folders indexed 3 times an hour", 3600),
]


@pytest.mark.parametrize(("setting", "work", "told", "period_s"), RATES, ids=[row[0] for row in RATES])
def test_calls_beyond_their_rate_are_refused_until_it_allows_them_and_leave_nothing(
    transactions: Transactions, another_door: Transactions, limit: Limit, setting: str, work: Callable[[Any], Any], told: str, period_s: int
) -> None:
    def do(opened: Transactions, who: str) -> None:
        with opened.begin(who) as session:
            work(session)

    def recorded() -> Any:
        kept = text("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM executions), (SELECT max(updated_at) FROM cop_states)")
        with transactions.begin("test:hand") as session:
            return tuple(session.execute(kept).one())

    limit(**{setting: 3})
    for number in range(3):
        do([transactions, another_door][number % 2], "ada")
    before = recorded()
    with pytest.raises(RateLimited, match=rf"^{told}, and has; call again in \d+ s .*FEDERATION_{setting.upper()}") as refusal:
        do(another_door, "ada")
    assert 0 < refusal.value.again_in_s <= period_s / 3
    assert recorded() == before
    # One kind takes nothing of another, nor one agent of the next.
    do(transactions, "bob")
    say(transactions, "ada")
    later(transactions, f"{period_s / 3} seconds")
    do(transactions, "ada")
    with pytest.raises(RateLimited):
        do(transactions, "ada")
    limit(**{setting: 0})
    for _ in range(5):
        do(transactions, "ada")


def contents(opened: Transactions, who: str) -> list[str]:
    with opened.begin(who) as session:
        return [message.content.partition("\n")[0] for message in inboxes.inbox(session).messages]


def approve(opened: Transactions, who: str, slug: str) -> None:
    with opened.begin(who) as session:
        approvals.decide(session, slug, Decision.APPROVE)


def test_an_approval_takes_nothing_of_what_anybody_may_send(transactions: Transactions, limit: Limit) -> None:
    limit(messages_per_minute=1)
    for slug in ("one", "two"):
        delegate(transactions, "bob", slug, requires_approval=True)
    for name in ("ada", "bob"):
        say(transactions, name)
    for slug in ("one", "two"):
        approve(transactions, "ada", slug)
    assert contents(transactions, "dan") == ["Task one: Look into it", "Task two: Look into it"]
    assert contents(transactions, "bob") == ["Task one was approved.", "Task two was approved."]


def test_an_approval_waits_for_nobodys_allowance(transactions: Transactions, limit: Limit) -> None:
    limit(messages_per_minute=10)
    delegate(transactions, "bob", "gate", agent="dan", requires_approval=True)
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    with ThreadPoolExecutor(1) as pool, transactions.begin("bob") as session, transactions.engine.connect() as connection:
        messages.send(session, "Not committed yet", to="eve")
        approving = pool.submit(approve, transactions, "ada", "gate")
        while not approving.done():
            assert connection.execute(waiting).scalar_one() == 0
            connection.rollback()
        approving.result()
    assert contents(transactions, "dan") == ["Task gate: Look into it"]


def test_a_delegation_that_others_hear_of_counts_as_one_message_however_many_they_are(transactions: Transactions, limit: Limit) -> None:
    limit(messages_per_minute=3)
    with transactions.begin("bob") as session:
        announcements.of_request(session, tasks.delegate(session, "Look into it", requires_approval=True), ["ada", "dan", "eve"])
        announcements.of_work(session, tasks.delegate(session, "Look into it"))
        # Nobody hears of these.
        announcements.of_request(session, tasks.delegate(session, "Look into it", requires_approval=True), [])
        announcements.of_work(session, tasks.delegate(session, "Look into it", agent="bob"))
    say(transactions, "bob")
    with pytest.raises(RateLimited), transactions.begin("bob") as session:
        announcements.of_work(session, tasks.delegate(session, "Look into it"))


def test_zero_is_any_number(transactions: Transactions, limit: Limit) -> None:
    limit(messages_per_minute=0, open_tasks_per_agent=0, inference_tokens_per_day=0)
    for number in range(5):
        say(transactions, "ada")
        delegate(transactions, "ada", f"t{number}", executor="node")
        ask(transactions, "ada")


def test_tasks_that_have_not_ended_are_counted(transactions: Transactions, limit: Limit) -> None:
    limit(open_tasks_per_agent=2)
    delegate(transactions, "ada", "one")
    first = delegate(transactions, "ada", "two", executor="node")
    with pytest.raises(OverQuota, match=r"ada may have 2 tasks .*federation_cancel_task.*FEDERATION_OPEN_TASKS_PER_AGENT"):
        delegate(transactions, "ada", "three")
    # The same again is no other task, and those of others are theirs.
    assert delegate(transactions, "ada", "two", executor="node").id == first.id
    delegate(transactions, "bob", "four")
    with transactions.begin("ada") as session:
        task_ends.cancel(session, "one")
    delegate(transactions, "ada", "three")


def test_last_open_task_is_one_however_many_are_delegated_at_once(transactions: Transactions, another_door: Transactions, limit: Limit) -> None:
    limit(open_tasks_per_agent=3)
    doors = [transactions, another_door]
    ended = at_once([lambda door=doors[number % 2], number=number: delegate(door, "ada", f"t{number}") for number in range(8)])
    assert [isinstance(each, OverQuota) for each in ended].count(False) == 3


def test_tokens_are_counted_when_asked_and_corrected_when_known(transactions: Transactions, limit: Limit) -> None:
    limit(inference_tokens_per_day=1000)
    with pytest.raises(OverQuota, match=r"1000 tokens a day, and this may take 10\d\d.*FEDERATION_INFERENCE_TOKENS_PER_DAY"):
        ask(transactions, "ada", max_tokens=1000)
    execution_id = ask(transactions, "ada", max_tokens=900)
    with pytest.raises(OverQuota, match=r"room for these \d+ in \d+ minutes") as refusal:
        ask(transactions, "ada", max_tokens=500)
    # «Again» is the word for what may simply be repeated.
    assert not re.search("again", str(refusal.value))
    counted = inference.tokens_at_most([{"content": inference.DEFAULT_PROMPT}, {"content": "why"}], 900)
    run = {"engine": "llamacpp", "model": "m", "model_digest": "d", "node": "aorus", "parameters": {}, "prompt_sha256": "0" * 64}
    answer = {"completion": "So.", "finish_reason": "stop", "prompt_tokens": 20, "completion_tokens": 2, "seconds": 0.1}
    with transactions.begin("ada", execution_id=execution_id) as session:
        assert inference.record_run(session, run | answer, counted=counted)
    with transactions.begin("ada", execution_id=execution_id) as session:
        assert not inference.record_run(session, run | answer, counted=counted)
    ask(transactions, "ada", max_tokens=900)
    with pytest.raises(OverQuota):
        ask(transactions, "ada", max_tokens=100)
    later(transactions, "12 hours")
    ask(transactions, "ada", max_tokens=400)


def test_tasks_that_a_model_does_are_counted_too_and_reports_are_not(transactions: Transactions, limit: Limit) -> None:
    limit(inference_tokens_per_day=150)
    delegate(transactions, "ada", "one", executor="node")
    with pytest.raises(OverQuota):
        delegate(transactions, "ada", "two", executor="node")
    delegate(transactions, "ada", "three", executor="node", task_type="report")
    delegate(transactions, "ada", "four")


def test_answer_of_an_inbox_is_bounded_and_the_rest_follows(transactions: Transactions) -> None:
    sizes = [100_000, 70_000, 20_000, 10, 100_000, 100_000, 5]
    for number, size in enumerate(sizes):
        say(transactions, "ada", f"{number}" + "x" * (size - 1))
    answers, cursor, more = [], None, True
    while more:
        with transactions.begin("eve") as session:
            found = inboxes.inbox(session, after=cursor)
        answers.append([len(message.content) for message in found.messages])
        cursor, more = found.cursor, found.more
    assert answers == [[100_000, 70_000], [20_000, 10, 100_000], [100_000, 5]]
    with transactions.begin("eve") as session:
        assert inboxes.inbox(session, after=cursor) == inboxes.Inbox([], cursor, False)


def test_message_that_is_too_long_for_an_answer_comes_alone(transactions: Transactions) -> None:
    for content in ("ä" * 100_000, "short", "short"):
        say(transactions, "ada", content)
    with transactions.begin("eve") as session:
        first = inboxes.inbox(session, limit=1)
        assert (len(first.messages), first.more) == (1, True)
        first = inboxes.inbox(session)
        assert (len(first.messages[0].content), len(first.messages), first.more) == (100_000, 1, True)
        second = inboxes.inbox(session, after=first.cursor, limit=2)
        assert ([message.content for message in second.messages], second.more) == (["short", "short"], False)
