"""Holders that stand still: no write by who has lost his claim."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from federation.store.models.events import Event
from federation.transaction import Transactions
from tests.integration.services import claim_holder
from tests.integration.services.claiming import MAIN, take
from tests.integration.world import until


class Holder:
    """A process of bob's that claims and writes as it is told."""

    def __init__(self, *urls: str) -> None:
        command = [sys.executable, "-m", "tests.integration.services.claim_holder", "bob", *urls]
        root = Path(__file__).parents[3]
        self._process = subprocess.Popen(command, cwd=root, env=os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer() == "ready"

    def tell(self, *words: object) -> None:
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def holder_of(transactions: Transactions) -> Iterator[Holder]:
    urls = [engine.url.render_as_string(hide_password=False).replace("+psycopg", "") for engine in (transactions.engine, transactions.service)]
    made = Holder(*urls)
    try:
        yield made
    finally:
        made.end()


def written(transactions: Transactions, resource: str) -> list[tuple[str, int]]:
    """Return who wrote there, with which tokens, in order."""
    with transactions.begin("test:hand") as session:
        query = select(Event.actor, Event.payload["fencing_token"].as_integer()).order_by(Event.position)
        query = query.where(Event.stream == f"claim:{resource}", Event.type == claim_holder.WRITTEN)
        return [(row[0], row[1]) for row in session.execute(query)]


def freeze(transactions: Transactions, times: int) -> None:
    """Stop the holder past its time again and again; what it writes when it goes on is refused, for the file and for the folder in which it lies."""
    with holder_of(transactions) as holder:
        for number in range(times):
            file = f"file:{number}/src/main.py"
            holder.tell("claim", file, 1)
            old = int(holder.answer())
            holder.tell("write", file, old)
            assert holder.answer() == "written"
            holder.stop()
            # It has this to do when it goes on, as a program has that was about to write.
            holder.tell("write", file, old)
            other = file if number % 2 else f"file:{number}/**"
            new = until(
                lambda other=other: (won := take(transactions, "dan", other)).claimed and won, "the claim of the one that stands still lapses"
            )
            with transactions.begin("dan") as session:
                claim_holder.write(session, file, new.fencing_token)
            holder.go_on()
            assert holder.answer().startswith("Refused: Claim before you code: dan holds")
            assert written(transactions, file) == [("bob", old), ("dan", new.fencing_token)]
            assert new.fencing_token > old


def test_stale_writes_of_a_holder_that_stood_still_are_fenced(transactions: Transactions) -> None:
    freeze(transactions, 10)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_stale_writes_of_a_holder_that_stood_still_are_fenced(transactions: Transactions) -> None:
    freeze(transactions, 100)


def test_what_a_killed_process_held_lapses_by_itself_and_who_comes_back_with_its_token_is_refused(transactions: Transactions) -> None:
    with holder_of(transactions) as holder:
        holder.tell("claim", MAIN, 1)
        old = int(holder.answer())
        holder.tell("write", MAIN, old)
        assert holder.answer() == "written"
        holder.end()
        # Nobody gave it back, and nobody ends it: its time does.
        new = until(lambda: (won := take(transactions, "dan", MAIN)).claimed and won, "the claim of the dead lapses")
        assert new.fencing_token == old + 1
    with holder_of(transactions) as again:
        again.tell("write", MAIN, old)
        assert again.answer().startswith("Refused: Claim before you code: dan holds file:src/main.py until")
    with transactions.begin("dan") as session:
        claim_holder.write(session, MAIN, new.fencing_token)
    assert written(transactions, MAIN) == [("bob", old), ("dan", new.fencing_token)]


def test_who_stands_still_in_the_midst_of_a_write_holds_nobody_up_and_writes_nothing(transactions: Transactions) -> None:
    with holder_of(transactions) as holder:
        holder.tell("claim", MAIN, 1)
        old = int(holder.answer())
        holder.tell("stop", MAIN, old)
        assert holder.answer() == "stopped"
        new = until(lambda: (won := take(transactions, "dan", "file:src/**")).claimed and won, "the claim of the one that stands still lapses")
        with transactions.begin("dan") as session:
            claim_holder.write(session, MAIN, new.fencing_token)
        holder.go_on()
        assert holder.answer().startswith("DatabaseUnavailable: ")
    assert written(transactions, MAIN) == [("dan", new.fencing_token)]
