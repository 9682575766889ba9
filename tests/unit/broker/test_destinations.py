"""Names: any character survives, and none of them means something to ActiveMQ."""

import re

from hypothesis import given
from hypothesis import strategies as st

from federation.broker import destinations
from federation.broker.consumer import binding_pattern

NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


@given(NAMES)
def test_any_name_comes_back_and_holds_nothing_special(name: str) -> None:
    encoded = destinations.encode_name(name)
    assert destinations.decode_name(encoded) == name
    assert not re.search(r"[,?*>:\s]", encoded)


def test_a_celery_queue_takes_the_prefix() -> None:
    assert destinations.queue("taichi", "federation.node.") == "/queue/federation.node.taichi"


def test_a_mailbox_of_remote_control_takes_no_prefix() -> None:
    assert destinations.queue("1f.reply.celery.pidbox", "federation.node.") == "/queue/1f.reply.celery.pidbox"
    assert destinations.fanout("celery.pidbox", "federation.") == "/topic/celery.pidbox"


def test_a_durable_fanout_queue_is_one_element_of_the_virtual_topics_pattern() -> None:
    assert destinations.fanout_queue("a.b", "news") == "/queue/Consumer.a%2Eb.VirtualTopic.news"
    assert destinations.fanout("news") == "/topic/VirtualTopic.news"


def test_bindings_of_events_become_wildcards() -> None:
    assert destinations.event("celeryev", "task.multi") == "/topic/celeryev.task.multi"
    assert destinations.event_pattern("celeryev", "#") == "/topic/celeryev.>"
    assert destinations.event_pattern("celeryev", "worker.#") == "/topic/celeryev.worker.>"
    assert destinations.event_pattern("celeryev", "*.started") == "/topic/celeryev.*.started"


def test_a_reply_tells_its_queue_by_its_key() -> None:
    assert destinations.reply_queue("reply.celery.pidbox", "1f") == "1f.reply.celery.pidbox"
    assert destinations.reply_queue("work", "work") is None


def test_a_binding_within_the_key_is_matched_here() -> None:
    pattern = binding_pattern("a.#.z")
    assert pattern.fullmatch("a.b.c.z")
    assert pattern.fullmatch("a.z")
    assert not pattern.fullmatch("a.b")
