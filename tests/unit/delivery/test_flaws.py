"""What a message may say in its headers and its body, without a worker."""

import json
from typing import Any

import pytest
from celery import Celery
from kombu import Message

from federation.delivery.flaws import flaw


def message(body: Any = ([], {}, {}), **headers: Any) -> Message:
    return Message(
        body=json.dumps(body),
        content_type="application/json",
        content_encoding="utf-8",
        headers={"task": "known", "id": "7", **headers},
        accept=["application/json"],
    )


def test_what_celery_sends_has_no_flaw() -> None:
    app = Celery(set_as_current=False)
    sent = app.amqp.as_task_v2(
        "7", "known", (1,), {"a": 2}, countdown=5, expires=9.5, retries=3, time_limit=7, soft_time_limit=2, group_id="g", group_index=1, root_id="r"
    )
    assert flaw(message(sent.body, **json.loads(json.dumps(sent.headers))), {"known"}) is None


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
        ({"task": "other"}, "unknown task 'other'"),
        ({"federation": [1]}, "`federation`"),
    ],
)
def test_header_that_celery_would_stumble_over_is_named(headers: dict[str, Any], named: str) -> None:
    assert named in (flaw(message(**headers), {"known"}) or "")


@pytest.mark.parametrize("embed", [{"callbacks": 5}, {"chain": {"a": 1}}, {"errbacks": ["x"]}, {"chord": "x"}])
def test_callbacks_that_are_no_signatures_are_named(embed: dict[str, Any]) -> None:
    assert next(iter(embed)) in (flaw(message(([], {}, embed)), {"known"}) or "")
