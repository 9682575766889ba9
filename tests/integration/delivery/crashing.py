"""Does the work of a door, or of a relay, in a child that kills itself at the step that it is told: `python -m crashing door`, a number a line.

A step is each moment before and after a statement, a commit, a write to ActiveMQ and a receipt; at 0 it does not die. A number with a point is
seconds: so long after its first step it is killed, wherever it is. Answers with a line of JSON each: the id of the execution that a door was to
record, the steps that the child came to, whether it died at the last of them, and how long it lived from the first.
"""

import json
import os
import signal
import sys
import time
import uuid
from typing import Any

import psycopg
from sqlalchemy import event

from federation.broker.connection import StompConnection
from federation.delivery import feeder, relay
from federation.delivery.app import make
from federation.delivery.publisher import CeleryPublisher
from federation.services import agents, messages
from federation.settings import load
from federation.store import outbox
from federation.transaction import Silent, Transactions, connect

FOR_EVER_S = 1e6
# So few events and copies at once, that three are more than one batch.
AT_ONCE = 2


class Steps:
    """Tells each, and kills this process at one of them."""

    def __init__(self, deadly: int, told: int) -> None:
        self._deadly, self._told, self._done = deadly, told, 0

    def __call__(self, name: str) -> None:
        self._done += 1
        os.write(self._told, f"{name}\n".encode())
        if self._done == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(engine: Any, step: Steps, *, reads: bool = True) -> None:
    """Make a step of each statement and commit."""

    def stepped(when: str) -> Any:
        def executes(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            if reads or not statement.startswith("SELECT"):
                step(f"{when} {' '.join(statement.split()[:3])}")

        return executes

    event.listen(engine, "before_cursor_execute", stepped("before"))
    event.listen(engine, "after_cursor_execute", stepped("after"))
    dialect = engine.dialect
    commit = dialect.do_commit

    def do_commit(connection: Any) -> None:
        step("before COMMIT")
        commit(connection)
        step("after COMMIT")

    dialect.do_commit = do_commit


def stepping(step: Steps) -> type[psycopg.Cursor]:
    """Return cursors that make a step of each statement."""

    class Stepping(psycopg.Cursor):
        def execute(self, query: Any, *args: Any, **options: Any) -> Any:
            name = " ".join(str(query).split()[:3])
            step(f"before {name}")
            super().execute(query, *args, **options)
            step(f"after {name}")
            return self

    return Stepping


def watch_the_broker(step: Steps) -> None:
    """Make a step of each write and receipt."""
    for name in ("send", "wait_for_receipt"):
        _wrap(name, step)


def _wrap(name: str, step: Steps) -> None:
    former = getattr(StompConnection, name)

    def wrapped(self: Any, *args: Any, **options: Any) -> Any:
        step(f"before {name}")
        answer = former(self, *args, **options)
        step(f"after {name}")
        return answer

    setattr(StompConnection, name, wrapped)


def door(identity: uuid.UUID, step: Steps) -> None:
    """What a door does: rows, events, an outbox entry, and the sending after the commit."""
    given = load()
    assert given.database_url is not None
    assert given.database_service_url is not None
    engine, service = connect(given.database_url.get_secret_value()), connect(given.database_service_url.get_secret_value())
    app = make(lambda: given)
    for each in (engine, service):
        watch(each, step)
    watch_the_broker(step)
    with Transactions(engine, CeleryPublisher(app, service, stale_s=FOR_EVER_S), service=service).begin("ada") as session:
        agents.get(session, "ada")
        messages.send(session, f"about {identity}", conversation_id="crashing")
        outbox.record(session, "tests.where", {}, execution_id=identity)


def say_to_all(identity: uuid.UUID, step: Steps) -> None:
    """What a door does for a message to everybody: its row, one in each inbox, and its event."""
    given = load()
    assert given.database_url is not None
    engine = connect(given.database_url.get_secret_value())
    watch(engine, step)
    with Transactions(engine, Silent()).begin("ada") as session:
        messages.send(session, f"about {identity}")


def tell(identity: uuid.UUID, step: Steps) -> None:
    """What a relay does: numbers what happened, tells the topics of it, and copies inboxes to those who are fed."""
    given = load()
    assert given.database_service_url is not None
    url = given.database_service_url.get_secret_value()
    engine = connect(url)
    # It reads much, and a read leaves all as it was.
    watch(engine, step, reads=False)
    watch_the_broker(step)
    relay.TOLD_AT_ONCE = feeder.AT_ONCE = AT_ONCE
    relay.LOOK_S = 0.0
    one = relay.Relay(make(lambda: given), Transactions(engine, Silent()), listen_url=url)
    with psycopg.connect(url, autocommit=True) as line:
        # PostgreSQL may not have noticed yet that who led before is dead.
        while not one._leads(line):
            time.sleep(0.01)
        line.cursor_factory = stepping(step)
        one._relay(line)


def main() -> None:
    work = {"door": door, "relay": tell, "speaker": say_to_all}[sys.argv[1]]
    for line in sys.stdin:
        identity = uuid.uuid4()
        after_s = float(line) if "." in line else None
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            work(identity, Steps(0 if after_s is not None else int(line), writer))
            os._exit(0)
        os.close(writer)
        first = os.read(reader, 4096).decode()
        began_s = time.perf_counter()
        if after_s is not None:
            time.sleep(after_s)
            # It has not been waited for, so that its number is no other's.
            os.kill(pid, signal.SIGKILL)
        with os.fdopen(reader) as told:
            steps = (first + told.read()).splitlines()
        lived_s = time.perf_counter() - began_s
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit(f"the child failed with {os.WEXITSTATUS(status)}")
        sys.stdout.write(json.dumps({"execution_id": str(identity), "steps": steps, "died": os.WIFSIGNALED(status), "lived_s": lived_s}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
