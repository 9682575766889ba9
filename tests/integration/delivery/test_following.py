"""`federation events --follow` beside a real beat that gives the numbers: each event once, over a PostgreSQL that is restarted, until Ctrl-C."""

import json
import signal
from pathlib import Path
from typing import Any

from federation.services import tasks
from tests import forks

World = Any


class Follower:
    """The command in a process of its own, and what it has written so far."""

    def __init__(self, world: World, name: str, *words: str) -> None:
        self._out, self._err = (world.folder / f"{name}.{kind}" for kind in ("out", "err"))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            arguments = ("events", "--follow", "--json", *words)
            self.process = forks.start("federation.cli.main", *arguments, cwd=Path(world.folder), env=world.environment(), stdout=out, stderr=err)
        world.processes.append(self.process)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    @property
    def handed_out(self) -> list[Any]:
        return [event["payload"].get("description") for event in self.events if event["type"] == "task.created"]

    @property
    def errors(self) -> str:
        return self._err.read_text()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def hand_out(world: World, *contents: str) -> None:
    for content in contents:
        with world.transactions.begin("cli:tester") as session:
            tasks.delegate(session, content)


def test_follower_tells_each_event_once_over_a_restart_of_postgresql(world: World, postgres: Any) -> None:
    world.celery("beat", name="beat")
    hand_out(world, "before")
    world.until(lambda: world.rows("SELECT 1 FROM event_order JOIN events USING (sequence) WHERE type = 'task.created'"), "beat numbers it")
    everything, some = Follower(world, "all", "--after", "0"), Follower(world, "tasks", "--type", "task.created", "--limit", "0")
    world.until(lambda: everything.handed_out == ["before"], "what happened is told")
    said = ["before", *map(str, range(20))]
    # The second one says nothing of what was; it follows when it tells this.
    world.until(lambda: hand_out(world, "begin") or some.handed_out, "it follows")
    hand_out(world, *said[1:])
    world.until(lambda: everything.handed_out[-20:] == some.handed_out[-20:] == said[1:], "what happens is told")

    postgres.stop()
    for follower in (everything, some):
        world.until(lambda follower=follower: "PostgreSQL does not answer" in follower.errors, "it says what it misses")
        assert follower.process.poll() is None
    postgres.start()
    # One after the other, so that what was told twice would come in between.
    for content in ("after", "end"):
        hand_out(world, content)
        world.until(lambda content=content: everything.handed_out[-1] == some.handed_out[-1] == content, "they go on")
    numbers = [event["number"] for event in everything.events]
    assert numbers == list(range(1, len(numbers) + 1))
    told = [event["number"] for event in some.events]
    assert told == [event["number"] for event in everything.events if event["type"] == "task.created" and event["number"] >= told[0]]
    assert (everything.interrupt(), some.interrupt()) == (130, 130)
    for follower in (everything, some):
        away, back = follower.errors.splitlines()
        assert away.startswith("federation: PostgreSQL does not answer")
        assert back.startswith("federation: PostgreSQL answers again, after ")
