"""Questions to workers are everybody's, commands the operators'; a question that is made up changes nothing."""

import subprocess
import sys
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from federation.delivery.app import make
from federation.delivery.control import LOOK_FOR_CANCELLED
from federation.errors import Refused
from federation.settings import Settings

World = Any
WITHIN_S = 60


@pytest.fixture
def control(calm: World, tmp_path: Path) -> Any:
    """Remote control as one of the broker's users."""

    def of(user: str) -> Any:
        url, database = SecretStr(calm.broker.url_of(user)), SecretStr(calm.service_url)
        return make(partial(Settings, data_dir=tmp_path, broker_url=url, database_service_url=database)).control

    return of


def asked(control: Any, command: str, **arguments: Any) -> Any:
    [answer] = control.broadcast(command, arguments, reply=True, timeout=WITHIN_S, limit=1)
    return answer


@pytest.fixture
def running(calm: World, tmp_path: Path) -> Any:
    """An execution that runs on the worker until the file `go` appears."""
    started, go = tmp_path / "started", tmp_path / "go"
    identity = calm.record("tests.effect", {"started": str(started), "go": str(go)})
    calm.until(started.exists, "it runs")
    yield identity
    go.touch()


@pytest.mark.parametrize("user", ["observer", "operator", "worker"])
def test_who_may_ask_is_answered(calm: World, control: Any, user: str, running: uuid.UUID) -> None:
    [(name, pong)] = asked(control(user), "ping").items()
    assert (name.partition("@")[0], pong) == (calm.calm_node, {"ok": "pong"})
    [answers] = asked(control(user), "active").values()
    assert str(running) in [one["id"] for one in answers]


@pytest.mark.parametrize("user", ["observer", "door", "relay", "worker", "stomp"])
def test_a_command_of_who_is_no_operator_is_refused_and_not_obeyed(calm: World, control: Any, user: str, running: uuid.UUID) -> None:
    with pytest.raises(Refused, match=f"User {user} is not authorized to write to.*FEDERATION_BROKER_URL"):
        control(user).shutdown()
    with pytest.raises(Refused, match=f"User {user} is not authorized"):
        control(user).revoke(str(running), terminate=True)
    assert "ok" in next(iter(asked(control("operator"), "ping").values()))
    assert calm.state(running).state == "running"


def test_operators_command(control: Any) -> None:
    [answer] = asked(control("operator"), "rate_limit", task_name="tests.where", rate_limit="100/s").values()
    assert answer == {"ok": "new rate limit set successfully"}


def test_what_is_no_question_is_not_answered_as_one(calm: World, control: Any, running: uuid.UUID) -> None:
    """Whoever may ask could write anything into the mailbox of questions."""
    questions = control("observer").questions
    with calm.app.connection_for_write() as connection:
        mailbox = questions(connection)
        mailbox._broadcast("shutdown", {})
        mailbox._broadcast("revoke", {"task_id": str(running), "terminate": True})
        mailbox._broadcast("hello", {"from_node": "mallory@here", "revoked": [str(running)]})
        mailbox._broadcast(LOOK_FOR_CANCELLED, {"ids": [str(running), "no id", None, 7]})
        mailbox._broadcast(LOOK_FOR_CANCELLED, {"ids": "text"})
    [revoked] = asked(control("observer"), "revoked").values()
    assert str(running) not in revoked
    assert calm.state(running).state == "running"


def test_an_answer_goes_only_where_answers_are_waited_for(calm: World, control: Any) -> None:
    """A worker may write to the queues of nodes, and who may only ask may not."""
    questions, lure, key = control("observer").questions, f"lure-{calm.tag}", str(uuid.uuid4())
    answers = questions.reply_exchange.name
    places: list[Any] = [
        {"exchange": "", "routing_key": lure},
        {"exchange": "", "routing_key": key},
        {"exchange": "reply.celery.pidbox", "routing_key": key},
        {"exchange": answers, "routing_key": lure},
        {"exchange": answers, "routing_key": key.upper()},
        {"exchange": answers, "routing_key": "None"},
        {"exchange": answers, "routing_key": [key]},
        {"exchange": answers},
        lure,
    ]
    refused = calm.log(calm.calm_node).count("questions.not_answered")
    with calm.app.connection_for_write() as connection:
        for place in places:
            question = {"method": "ping", "arguments": {}, "ticket": key, "reply_to": place}
            connection.Producer().publish(question, exchange=questions.exchange.name, declare=[questions.exchange], serializer="json")
    assert "ok" in next(iter(asked(control("observer"), "ping").values()))
    written = (calm.destination(lure), calm.destination(key), f"/queue/{key}.reply.celery.pidbox", f"/queue/{lure}.{answers}")
    assert [calm.size(queue) for queue in written] == [None] * len(written)
    assert calm.log(calm.calm_node).count("questions.not_answered") == refused + len(places)


def test_the_command_line_says_in_one_line_who_may_command(calm: World) -> None:
    command = [sys.executable, "-m", "celery", "-A", "federation", "control", "shutdown"]
    environment = calm.environment(FEDERATION_BROKER_URL=calm.broker.url_of("observer"))
    done = subprocess.run(command, env=environment, cwd=calm.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The broker does not take the command 'shutdown' from us: User observer is not authorized")
    assert "Traceback" not in done.stderr
