"""A whole federation for each test, on the session's servers, without the watch over each write, which would cost more than the work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.faults.system import System, running_system
from tests.integration.world import World


@pytest.fixture(scope="session")
def plain_template(postgres: Any, alembic: Any) -> Iterator[str]:
    """The name of a database with the whole schema."""
    with postgres.database(owner="federation_owner") as url:
        alembic(postgres.as_role("federation_owner", url), "upgrade", "head")
        yield url.rpartition("/")[2]


@pytest.fixture
def system(postgres: Any, activemq: Any, plain_template: str, tmp_path: Path) -> Iterator[System]:
    """A federation that works; all its processes end with the test."""
    postgres.start()
    activemq.start()
    with postgres.database(template=plain_template) as owner_url:
        app, service = (postgres.as_role(role, owner_url) for role in ("federation_app", "federation_service"))
        world = World(tmp_path, owner_url=owner_url, database_url=app, service_url=service, broker=activemq)
        try:
            with running_system(world, postgres, activemq) as made:
                yield made
        finally:
            world.close()
        postgres.start()  # a test may have left it killed
        activemq.start()
