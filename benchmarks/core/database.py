"""A PostgreSQL with our schema for one benchmark, fsync on, and transactions on it in the program's own roles."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from alembic import command

from benchmarks.running import Running
from federation.local.migrate import configuration
from federation.local.ports import free_port
from federation.local.postgres import DATABASE, OWNER, ROLES, Postgres
from federation.store.context import Unsent
from federation.transaction import Transactions, connect


class Nobody:
    """A publisher that sends nothing: the broker is measured elsewhere."""

    def publish(self, unsent: Sequence[Unsent]) -> None: ...

    def cancel(self, execution_ids: Sequence[UUID]) -> None: ...


@dataclass(frozen=True)
class Database:
    """A migrated database and the passwords of its roles."""

    server: Postgres
    passwords: Mapping[str, str]

    def url(self, role: str | None = None) -> str:
        """Return the URL for one of the roles, or for the superuser."""
        return self.server.url(DATABASE) if role is None else self.server.url(DATABASE, user=role, password=self.passwords[role])

    @contextmanager
    def transactions(self, role: str) -> Iterator[Transactions]:
        """Yield transactions as one of the program's roles, whoever acts."""
        engine = connect(self.url(role))
        try:
            yield Transactions(engine, Nobody())
        finally:
            engine.dispose()


@contextmanager
def migrated(running: Running) -> Iterator[Database]:
    """Yield a server's database with our tables. Raises LocalServiceError where it cannot be had."""
    made = Database(Postgres(running.folder_of("core-postgres"), free_port()), {role: secrets.token_urlsafe(18) for role in ROLES})
    with running.part(made.server.part()):
        made.server.ensure_roles(made.passwords)
        made.server.ensure_database()
        command.upgrade(configuration(made.url(OWNER)), "head")
        yield made
