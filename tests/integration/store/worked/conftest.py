"""Databases in which the main job has been done: once for all tests here, each of which gets a database of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from federation.transaction import Transactions
from tests.integration import kept
from tests.integration.conftest import Recorder, with_agents
from tests.integration.stock import Stock


@pytest.fixture(scope="session")
def worked(postgres: Any, template: str, watch: Any, do_all: Callable[[Transactions], None]) -> Iterator[Stock]:
    """Databases that look as if the main job had just ended."""
    with postgres.database(owner="federation_owner", template=template) as url:
        with with_agents(postgres, url, Recorder()) as transactions:
            do_all(transactions)
        assert watch.flaws(url) == []
        watch.forget(url)
        stock = Stock(postgres, url.rpartition("/")[2])
        yield stock
        stock.close()


@pytest.fixture
def database(postgres: Any, worked: Stock, watch: Any) -> Iterator[str]:
    """The superuser's URL of a database of this test's own, where the main job is done; what the test wrote without an event is an error."""
    with worked.lend() as url:
        yield url
        postgres.start()  # a test may have left it killed
        # Tests here tamper with the log; the payloads of the main job were looked at above.
        assert watch.flaws(url, tampered=True) == []


@pytest.fixture
def transactions(postgres: Any, database: str, publisher: Recorder) -> Transactions:
    """Transactions on it as the program makes them; the four agents are there."""
    app, service = (kept.engine(postgres.as_role(role, database)) for role in ("federation_app", "federation_service"))
    return Transactions(app, publisher, service=service)
