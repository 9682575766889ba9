"""A world for each test of delivery, or one that is shared by those that hurt nobody; each write is watched for its event."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.world import World


@contextmanager
def opened(postgres: Any, activemq: Any, stock: Any, watch: Any, folder: Path, kind: type[World] = World) -> Iterator[World]:
    """A world on the session's servers, whose writes are watched."""
    postgres.start()
    activemq.start()
    with stock.lend() as owner_url:
        app, service = (postgres.as_role(role, owner_url) for role in ("federation_app", "federation_service"))
        made = kind(folder, owner_url=owner_url, database_url=app, service_url=service, broker=activemq)
        try:
            yield made
        finally:
            made.close()
        postgres.start()  # a test may have left it killed
        assert watch.flaws(owner_url) == []


@pytest.fixture
def world(postgres: Any, activemq: Any, stock: Any, watch: Any, tmp_path: Path) -> Iterator[World]:
    """A fresh database on the session's servers; all processes that the test started end with it, and each of their writes has its event."""
    with opened(postgres, activemq, stock, watch, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def _calm(postgres: Any, activemq: Any, stock: Any, watch: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened(postgres, activemq, stock, watch, tmp_path_factory.mktemp("calm")) as made:
        made.calm_node = made.node("calm", role="lead")
        made.calm_worker = made.worker(made.calm_node)
        yield made


@pytest.fixture
def calm(_calm: World, postgres: Any, activemq: Any) -> World:
    """A world with one worker, shared by the tests that hurt nobody; a test that stopped a server finds it up again."""
    postgres.start()
    activemq.start()
    return _calm
