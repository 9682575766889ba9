"""Each committed event gets its number once, in one order that is that of each stream too; none is skipped, whoever commits late."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from federation.store import event_log, event_order
from federation.transaction import Transactions, connect


@pytest.fixture
def service(postgres: Any, database: str, publisher: Any) -> Iterator[Transactions]:
    engine = connect(postgres.as_role("federation_service", database))
    yield Transactions(engine, publisher)
    engine.dispose()


def number(service: Transactions, *, settled: int = 0, limit: int = 1000) -> tuple[int, int]:
    with service.begin("service:relay") as session:
        return event_order.give_numbers(session, settled=settled, limit=limit)


def told(url: str) -> list[tuple[int, str, int]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT number, stream, position FROM event_order JOIN events USING (sequence) ORDER BY number").fetchall()


def append(session: Session, stream: str) -> None:
    event_log.append(session, "test.happened", stream, payload={"said": "näh\u2028"})
    event_log.write(session)


def test_events_are_numbered_once_from_one_without_gaps(database: str, transactions: Transactions, service: Transactions) -> None:
    count, highest = number(service)
    assert count > 0
    assert number(service) == (0, 0)
    with transactions.begin("test:hand") as session:
        append(session, "a")
    assert number(service) == (1, highest + 1)
    numbers = [row[0] for row in told(database)]
    assert numbers == list(range(1, count + 2))


def test_a_transaction_that_commits_late_is_not_skipped(database: str, transactions: Transactions, service: Transactions) -> None:
    before, _ = number(service)
    with transactions.begin("test:hand") as late:
        append(late, "late")
        with transactions.begin("test:hand") as session:
            append(session, "early")
        assert number(service)[0] == 1
    assert number(service)[0] == 1
    assert [(row[0], row[1]) for row in told(database)[-2:]] == [(before + 1, "early"), (before + 2, "late")]


def test_nothing_is_settled_while_somebody_may_still_commit_below(transactions: Transactions, service: Transactions) -> None:
    """What the relay awaits is reached only when all transactions of that moment have ended."""
    with transactions.begin("test:hand") as late:
        append(late, "late")
        with transactions.begin("test:hand") as session:
            append(session, "early")
        with service.begin("service:relay") as session:
            first = event_order.look(session)
            awaited = first.horizon
            assert awaited is not None
            assert first.oldest < awaited.transaction
        with service.begin("service:relay") as session:
            assert event_order.look(session).oldest < awaited.transaction
    with service.begin("service:relay") as session:
        assert event_order.look(session).oldest >= awaited.transaction
        event_order.settle(session, awaited.sequence)
    with service.begin("service:relay") as session:
        settled = event_order.look(session)
        assert (settled.settled, settled.horizon) == (awaited.sequence, None)


def test_writers_at_once_keep_the_order_of_their_streams(database: str, postgres: Any, transactions: Transactions, service: Transactions) -> None:
    from federation.delivery.relay import Relay

    streams = ["a", "b", "c"]
    done = threading.Event()
    relay = Relay(None, service, listen_url=postgres.as_role("federation_service", database))  # type: ignore[arg-type]  # only numbers here

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            with transactions.begin("test:hand") as session:
                # Always in the same order, or two writers would wait for each other.
                for stream in sorted(chance.sample(streams, 2)):
                    append(session, stream)
                if chance.random() < 0.2:
                    session.rollback()

    def follow() -> None:
        while not done.is_set():
            relay._number()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    follower = threading.Thread(target=follow)
    for thread in (*writers, follower):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    follower.join()
    for _ in range(3):
        relay._number()
    rows = told(database)
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    for stream in streams:
        positions = [position for _, name, position in rows if name == stream]
        assert positions == list(range(1, len(positions) + 1))
        assert len(positions) > 50
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (len(rows),)
        [settled] = connection.execute("SELECT settled FROM event_relay").fetchone() or (None,)
        assert connection.execute("SELECT max(sequence) <= %s FROM events", [settled]).fetchone() == (True,)


def test_a_backlog_larger_than_a_batch_is_settled_as_it_goes(
    database: str, postgres: Any, transactions: Transactions, service: Transactions, monkeypatch: Any
) -> None:
    from federation.delivery import relay as module

    monkeypatch.setattr(module, "NUMBERED_AT_ONCE", 10)
    for _ in range(6):
        with transactions.begin("test:hand") as session:
            for _ in range(10):
                append(session, "a")
    relay = module.Relay(None, service, listen_url="")  # type: ignore[arg-type]  # only numbers here
    settled = []
    while relay._number() == 10:
        with service.begin("service:relay") as session:
            settled.append(event_order.look(session).settled)
    assert settled == sorted(settled)
    assert settled[-1] >= 50
    assert [row[0] for row in told(database)] == list(range(1, len(told(database)) + 1))


@pytest.mark.parametrize("column", ["actor", "trace_id", "type", "stream", "position"])
def test_an_event_lacks_none_of_what_the_log_is_for(database: str, column: str) -> None:
    values = {"stream": "a", "position": 1, "type": "test.happened", "actor": "ada", "trace_id": "x", "payload": "{}"} | {column: None}
    insert = f"INSERT INTO events ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})"
    with psycopg.connect(database) as connection, pytest.raises(psycopg.errors.NotNullViolation, match=f'column "{column}"'):
        connection.execute(insert, list(values.values()))


@pytest.mark.parametrize("table", ["event_order", "seals"])
@pytest.mark.parametrize("verb", ["update {} set number = 0", "delete from {}", "truncate {}"])
def test_the_order_and_the_seals_are_append_only(database: str, transactions: Transactions, table: str, verb: str) -> None:
    with psycopg.connect(database) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(verb.format(table))


def test_only_the_service_numbers(transactions: Transactions) -> None:
    with pytest.raises(Exception, match="permission denied for table event"), transactions.begin("ada") as session:
        event_order.give_numbers(session, settled=0, limit=1)


def test_a_line_is_the_same_text_for_the_same_values(transactions: Transactions, service: Transactions) -> None:
    with transactions.begin("test:hand") as session:
        append(session, "a")
    number(service)

    def last(begin: Callable[..., Any]) -> event_order.Line:
        with begin("test:hand") as session:
            session.execute(event_order.text("SET LOCAL timezone = 'Asia/Tokyo'"))
            highest = event_order.last_number(session)
            return event_order.lines(session, highest, highest)[0]

    line = last(service.begin)
    assert line == last(transactions.begin)
    assert line.type == "test.happened"
    assert line.text.startswith('{"at": "20')
    assert '"payload": {"said": "näh\u2028", "version": 1}' in line.text


def test_no_more_is_read_to_be_told_at_once_than_fits_and_at_least_one(
    database: str, postgres: Any, transactions: Transactions, service: Transactions
) -> None:
    before, _ = number(service)
    with transactions.begin("test:hand") as session:
        for place in range(6):
            # What cannot be packed.
            event_log.append(session, "test.happened", f"large:{place}", payload={"said": random.Random(place).randbytes(50_000).hex()})
    number(service)
    with psycopg.connect(postgres.as_role("federation_service", database), autocommit=True) as line:
        event_order.mark_published(line, before)

        def read(limit: int, most_bytes: int) -> tuple[list[int], bool]:
            lines, numbers, more = event_order.unpublished(line, limit=limit, most_bytes=most_bytes)
            assert [each.number for each in lines] == numbers
            return [each - before for each in numbers], more

        assert read(500, 10**9) == ([1, 2, 3, 4, 5, 6], False)
        assert read(4, 10**9) == ([1, 2, 3, 4], True)
        assert read(500, 1) == ([1], True)
        several, more = read(500, 250_000)
        assert (1 < len(several) < 6, more) == (True, True)
        event_order.mark_published(line, before + 6)
        assert read(500, 1) == ([], False)
