"""What a message may say in its headers and its body, without a worker."""

import json
from typing import Any

import pytest
from celery import Celery
from kombu import Message

from federation.delivery.flaws import content_flaw, header_flaw

APP = Celery(set_as_current=False)


@APP.task(name="known", shared=False)
def known(*args: Any, **kwargs: Any) -> None:
    """Take anything."""


@APP.task(name="plain", shared=False)
def plain(first: int, second: int = 2) -> None:
    """Take one argument or two."""


@APP.task(name="bound", bind=True, shared=False, autoretry_for=(OSError,))
def bound(self: Any, *, node: str, **more: Any) -> None:
    """Take a node by keyword, and anything else that is no name of its own."""


def message(body: Any = ([], {}, {}), **headers: Any) -> Message:
    return Message(
        body=json.dumps(body),
        content_type="application/json",
        content_encoding="utf-8",
        headers={"task": "known", "id": "7", **headers},
        accept=["application/json"],
    )


def test_what_celery_sends_has_no_flaw() -> None:
    sent = APP.amqp.as_task_v2(
        "7", "known", (1,), {"a": 2}, countdown=5, expires=9.5, retries=3, time_limit=7, soft_time_limit=2, group_id="g", group_index=1, root_id="r"
    )
    arrived = message(sent.body, **json.loads(json.dumps(sent.headers)))
    assert (header_flaw(arrived), content_flaw(arrived, APP.tasks)) == (None, None)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"stamped_headers": 5}, "`stamped_headers`"),
        ({"stamped_headers": ["a", None]}, "`stamped_headers`"),
        ({"stamps": ["a"]}, "`stamps`"),
        ({"timelimit": ["a", "b"]}, "`timelimit`"),
        ({"timelimit": [1]}, "`timelimit`"),
        ({"timelimit": [float("inf"), None]}, "`timelimit`"),
        ({"retries": True}, "`retries`"),
        ({"retries": -1}, "`retries`"),
        ({"eta": ""}, "`eta`"),
        ({"expires": "9999-12-31T23:59:59-14:00"}, "`expires`"),
        ({"shadow": {}}, "`shadow`"),
        ({"id": "x" * 256}, "`id`"),
        ({"id": "a\0"}, "`id`"),
        ({"id": None}, "`id`"),
        ({"ignore_result": "maybe"}, "`ignore_result`"),
    ],
)
def test_header_that_celery_would_stumble_over_is_named(headers: dict[str, Any], named: str) -> None:
    assert named in (header_flaw(message(**headers)) or "")


@pytest.mark.parametrize(("headers", "named"), [({"task": "other"}, "unknown task 'other'"), ({"federation": [1]}, "`federation`")])
def test_task_and_envelope_that_no_worker_knows_are_named(headers: dict[str, Any], named: str) -> None:
    strange = message(**headers)
    assert header_flaw(strange) is None
    assert named in (content_flaw(strange, APP.tasks) or "")


@pytest.mark.parametrize("embed", [{"callbacks": 5}, {"chain": {"a": 1}}, {"errbacks": ["x"]}, {"chord": "x"}])
def test_callbacks_that_are_no_signatures_are_named(embed: dict[str, Any]) -> None:
    assert next(iter(embed)) in (content_flaw(message(([], {}, embed)), APP.tasks) or "")


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "named"),
    [
        ("plain", [1], {}, None),
        ("plain", [1], {"second": 3}, None),
        ("plain", [], {}, "'first'"),
        ("plain", [1, 2, 3], {}, "too many positional"),
        ("plain", [1], {"third": 3}, "'third'"),
        ("plain", [1], {"first": 1}, "'first'"),
        ("bound", [], {"node": "a", "other": 1}, None),
        ("bound", [], {}, "'node'"),
        ("bound", ["a"], {}, "too many positional"),
        ("bound", [], {"node": "a", "self": "twice"}, "'self'"),
        ("celery.accumulate", [1, 2], {}, None),
    ],
)
def test_arguments_that_do_not_fit_the_task_are_named(task: str, args: list[Any], kwargs: dict[str, Any], named: str | None) -> None:
    found = content_flaw(message((args, kwargs, {}), task=task), APP.tasks)
    assert found is None if named is None else found is not None and f"do not fit {task}" in found and named in found
