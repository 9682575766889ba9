"""Celery's canvas on the transport: chains, groups, chords and the rest, on one worker."""

from typing import Any

import pytest
from celery import chain, chord, group

WITHIN_S = 60


def test_a_chain_passes_its_result_on(standing: Any) -> None:
    add = standing.tasks.add
    result = chain(add.s(1, 2), add.s(3), add.si(10, 1), add.s(4)).delay()
    assert result.get(timeout=WITHIN_S) == 15
    assert result.parent.parent.get(timeout=WITHIN_S) == 6


def test_a_group_keeps_the_order_of_its_tasks(standing: Any) -> None:
    assert group(standing.tasks.add.s(number, 1) for number in range(50)).delay().get(timeout=WITHIN_S) == list(range(1, 51))


def test_a_chord_joins_its_header(standing: Any) -> None:
    add, total = standing.tasks.add, standing.tasks.total
    assert chord((add.s(number, number) for number in range(20)), total.s()).delay().get(timeout=WITHIN_S) == 380


def test_groups_and_chains_nest(standing: Any) -> None:
    add, total = standing.tasks.add, standing.tasks.total
    nested = chain(add.s(1, 1), group(add.s(1), chain(add.s(2), add.s(3))), total.s(), add.s(100))
    assert nested.delay().get(timeout=WITHIN_S) == 110


def test_chunks_and_maps_run_as_single_tasks(standing: Any) -> None:
    add, total = standing.tasks.add, standing.tasks.total
    assert add.chunks([(number, number) for number in range(10)], 5).delay().get(timeout=WITHIN_S) == [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18]]
    assert add.starmap([(1, 2), (3, 4)]).delay().get(timeout=WITHIN_S) == [3, 7]
    assert total.map([[1, 2], [3]]).delay().get(timeout=WITHIN_S) == [3, 3]


def test_a_link_is_called_with_the_result_and_a_link_for_errors_with_the_error(standing: Any) -> None:
    tasks = standing.tasks
    linked, blamed = (
        tasks.add.s(40).set(task_id=f"linked-{standing.worker.name}"),
        tasks.seen_properties.si().set(task_id=f"blamed-{standing.worker.name}"),
    )
    tasks.add.apply_async((1, 1), link=linked)
    failed = tasks.divide.apply_async((1, 0), link_error=blamed)
    assert standing.app.AsyncResult(linked.id).get(timeout=WITHIN_S) == 42
    with pytest.raises(ZeroDivisionError):
        failed.get(timeout=WITHIN_S)
    assert "correlation_id" in standing.app.AsyncResult(blamed.id).get(timeout=WITHIN_S)


def test_a_task_is_tried_again_and_may_replace_itself(standing: Any) -> None:
    assert standing.tasks.third_time.delay().get(timeout=WITHIN_S) == 2
    assert standing.tasks.add_in_steps.delay([1, 2, 3, 4]).get(timeout=WITHIN_S) == 10


def test_a_task_with_a_countdown_runs_and_one_that_expired_does_not(standing: Any) -> None:
    add = standing.tasks.add
    expired = add.apply_async((1, 1), countdown=1, expires=0.2)
    assert add.apply_async((1, 2), countdown=1).get(timeout=WITHIN_S) == 3
    assert expired.state in {"PENDING", "REVOKED"}
