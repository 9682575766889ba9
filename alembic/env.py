"""Runs migrations as the owner of the tables; the program itself never connects with that role."""

from alembic import context
from sqlalchemy import MetaData, create_engine, pool

from federation.errors import SettingsError
from federation.results.tables import metadata as results
from federation.settings import settings
from federation.store.models import Base

TARGETS: list[MetaData] = [Base.metadata, results]


def _url() -> str:
    given = context.config.attributes.get("url")
    secret = settings().database_owner_url
    if given is None and secret is None:
        raise SettingsError("FEDERATION_DATABASE_OWNER_URL is not set: start `federation up`, or name a database and the owner of its tables")
    url: str = given or (secret.get_secret_value() if secret else "")
    return "postgresql+psycopg://" + url.split("://", 1)[1]


def run() -> None:
    """Migrate in one transaction."""
    engine = create_engine(_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=TARGETS, compare_type=True, compare_server_default=False)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
