"""Claims as executions: from the shell, as steps of a canvas, delivered twice, and waiting in line without a place in a worker."""

import json
import subprocess
import sys
import uuid
from typing import Any

from celery import chain

World = Any
CLAIM, CHECK, RELEASE = (f"federation.tasks.claims.{name}" for name in ("claim", "check", "release"))


def send(calm: World, task: str, resource: str, **more: Any) -> Any:
    options = {name: more.pop(name) for name in ("task_id", "root_id") if name in more}
    return calm.app.send_task(task, kwargs={"resource": resource, **more}, queue=calm.calm_node, **options)


def test_celery_call_claims(calm: World) -> None:
    command = [sys.executable, "-m", "celery", "-A", "federation", "call", CLAIM, "--queue", calm.calm_node]
    given = ["--kwargs", json.dumps({"resource": "file:called/main.py", "ttl_s": 120})]
    environment = calm.environment(FEDERATION_BROKER_URL=calm.broker.url_of("operator"))
    called = subprocess.run([*command, *given], cwd=calm.folder, env=environment, capture_output=True, text=True, check=False)
    assert called.returncode == 0, called.stderr
    identity = called.stdout.strip()
    told = calm.result(uuid.UUID(identity))
    assert (told["claimed"], told["holder"], told["fencing_token"]) == (True, f"run:{identity}", 1)


def test_steps_of_a_canvas_are_one_holder_and_two_canvases_are_two(calm: World) -> None:
    resource = "file:canvas/**"

    def step(task: str, **kwargs: Any) -> Any:
        return calm.app.signature(task, kwargs={"resource": resource, **kwargs}, immutable=True).set(queue=calm.calm_node)

    held = chain(step(CLAIM), step(CHECK, fencing_token=1)).apply_async().get(timeout=90)
    assert held == {"resource": resource, "fencing_token": 1}
    lost = send(calm, CLAIM, "file:canvas/main.py").get(timeout=90)
    assert (lost["claimed"], lost["holder"].startswith("run:"), lost["held"]) == (False, True, resource)
    given = chain(step(CLAIM), step(RELEASE)).apply_async().get(timeout=90)
    assert given == {"released": False, "left_line": False}


def test_claim_delivered_twice_is_one_claim(calm: World) -> None:
    identity = str(uuid.uuid4())
    told = [send(calm, CLAIM, "file:twice.py", task_id=identity).get(timeout=90) for _ in range(2)]
    assert told[0] == told[1]
    claimed = calm.rows("SELECT count(*) FROM events WHERE stream = 'claim:file:twice.py' AND type = 'claim.acquired'")
    assert claimed == [(1,)]


def test_execution_waits_in_line_and_gets_what_is_given_back(calm: World) -> None:
    resource = "file:line/main.py"
    first = send(calm, CLAIM, resource, ttl_s=600)
    assert first.get(timeout=90)["claimed"]
    in_vain = send(calm, CLAIM, "file:line/**", wait_s=0.2)
    waiting = send(calm, CLAIM, "file:line/**", wait_s=600)
    calm.until(lambda: calm.rows("SELECT FROM claim_waiters WHERE holder = %s", f"run:{waiting.id}"), "it stands in line")
    assert in_vain.get(timeout=90)["claimed"] is False
    assert send(calm, RELEASE, resource, root_id=first.id).get(timeout=90)["released"]
    assert (waiting.get(timeout=90)["claimed"], waiting.get()["fencing_token"]) == (True, 2)
    assert calm.rows("SELECT FROM claim_waiters WHERE resource = 'file:line/**'") == []


def test_wrong_names_and_old_tokens_fail_the_execution_with_words(calm: World) -> None:
    for task, given, says in (
        (CLAIM, {"resource": "main.py"}, "resource: got 'main.py'"),
        (CHECK, {"resource": "file:nobody.py", "fencing_token": 1}, "Claim before you code: nobody holds file:nobody.py"),
        (CLAIM, {"resource": "file:x", "wait_s": -1}, "wait_s: got -1"),
    ):
        sent = send(calm, task, **given)
        sent.get(timeout=90, propagate=False)
        assert says in str(sent.result)
