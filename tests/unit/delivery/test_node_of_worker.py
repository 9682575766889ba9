"""Which node a worker is, from the queues on its command line."""

import pytest

from federation.delivery.worker import node_of
from federation.errors import NotFound, SettingsError


def test_node_is_the_one_whose_queue_is_consumed() -> None:
    assert node_of(["taichi"]).name == "taichi"
    assert node_of("extra,baby").role == "analyst"


def test_worker_without_a_queue_is_told_the_nodes() -> None:
    with pytest.raises(SettingsError, match=r"celery -A federation worker -Q aorus \(nodes: aorus, baby, taichi\)"):
        node_of(None)


def test_worker_of_two_nodes_is_refused() -> None:
    with pytest.raises(SettingsError, match="a worker is one node; start one for each of taichi, baby"):
        node_of(["taichi", "baby"])


def test_queue_of_no_node_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="no node 'tachi'; nearest: taichi"):
        node_of(["tachi"])
