"""A migrated database for each test, as a clone of one template, and transactions as the unprivileged role."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from federation.services import agents
from federation.transaction import Transactions, connect

ROOT = Path(__file__).parents[2]


def alembic(owner_url: str, *arguments: str) -> None:
    """Run alembic as an operator does; its output is in the error where it fails."""
    command = [sys.executable, "-m", "alembic", "-c", str(ROOT / "pyproject.toml"), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"FEDERATION_DATABASE_OWNER_URL": owner_url}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session", name="alembic")
def _alembic() -> Callable[..., None]:
    """The command that operators migrate with."""
    return alembic


class Recorder:
    """The outermost edge: keeps what would have been sent."""

    def __init__(self) -> None:
        self.published: list[uuid.UUID] = []

    def publish(self, execution_ids: Sequence[uuid.UUID]) -> None:
        self.published.extend(execution_ids)


@pytest.fixture(scope="session")
def template(postgres) -> Iterator[str]:
    """The name of a database with the whole schema."""
    with postgres.database(owner="federation_owner") as url:
        alembic(postgres.as_role("federation_owner", url), "upgrade", "head")
        yield url.rpartition("/")[2]


@pytest.fixture
def database(postgres, template: str) -> Iterator[str]:
    """The superuser's URL of a migrated database of this test's own."""
    with postgres.database(owner="federation_owner", template=template) as url:
        yield url


@pytest.fixture
def publisher() -> Recorder:
    """What was handed over for sending."""
    return Recorder()


@pytest.fixture
def transactions(postgres, database: str, publisher: Recorder) -> Iterator[Transactions]:
    """Transactions as the role `app`, on a database where ada (lead), bob and dan (developers) and eve (analyst) exist."""
    engine = connect(postgres.as_role("federation_app", database))
    opened = Transactions(engine, publisher)
    with opened.begin("test:setup") as session:
        for name, role in {"ada": "lead", "bob": "developer", "dan": "developer", "eve": "analyst"}.items():
            agents.add(session, name, role)
    yield opened
    engine.dispose()
