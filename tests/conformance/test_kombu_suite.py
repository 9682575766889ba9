"""kombu's own integration suite, 47 tests, on our transport and a real ActiveMQ."""

import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import kombu
import pytest

import federation.broker  # noqa: F401  # registers activemq://

SUITE = Path(__file__).resolve().parents[2] / ".cache" / "kombu-suite" / version("kombu") / "t" / "integration" / "common.py"
CLOSED_PORT = 12345
PATIENCE_S = 5.0


def _load() -> ModuleType | None:
    if not SUITE.exists():
        return None
    specification = importlib.util.spec_from_file_location("kombu_integration_common", SUITE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


common = _load()


def test_suite_of_the_installed_kombu_is_fetched() -> None:
    assert common is not None, f"kombu's integration suite {version('kombu')} is not here: run `make fetch`"


class Patient(kombu.Connection):  # type: ignore[misc]  # kombu has no types
    """Waits longer for what the suite gives a second: that is its time for what must come, and a broker under load may need more."""

    def drain_events(self, *, timeout: float | None = None, **options: Any) -> Any:
        """Wait for an event. Raises socket.timeout."""
        return super().drain_events(timeout=None if timeout is None else max(timeout, PATIENCE_S), **options)


@pytest.fixture
def connection(activemq: Any) -> kombu.Connection:
    return Patient(activemq.url)


@pytest.fixture
def invalid_connection() -> kombu.Connection:
    return kombu.Connection(f"activemq://127.0.0.1:{CLOSED_PORT}/")


@pytest.fixture
def failover_connection(activemq: Any) -> kombu.Connection:
    return Patient(f"activemq://127.0.0.1:{CLOSED_PORT}/;{activemq.url}")


if common is not None:
    # xdist and pytest-randomly may run them in any order: each test of the suite has queues of its own, except «Basic» and «Failover».

    class TestBasicFunctionality(common.BasicFunctionality):
        pass

    class TestExchangeTypes(common.BaseExchangeTypes):
        pass

    class TestTimeToLive(common.BaseTimeToLive):
        pass

    class TestPriority(common.BasePriority):
        pass

    class TestMessage(common.BaseMessage):
        pass

    class TestEventLoop(common.BaseEventLoop):
        pass

    class TestFailover(common.BaseFailover):
        pass
