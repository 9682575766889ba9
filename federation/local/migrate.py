"""`python -m federation.local.migrate`: brings the database to the newest schema; runs as the owner of the tables."""

from pathlib import Path

from alembic import command
from alembic.config import Config

import federation
from federation.errors import SettingsError
from federation.settings import settings


def scripts() -> Path:
    """Return the folder of migrations: beside the package in a checkout, inside it in a wheel."""
    package = Path(federation.__file__).parent if federation.__file__ else Path(federation.__path__[0])
    beside = package.parent / "alembic"
    return beside if (beside / "env.py").exists() else package / "_alembic"


def configuration(owner_url: str) -> Config:
    """Return alembic's configuration for a database, without a file: the URL goes to `alembic/env.py` as the attribute `url`."""
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    config.attributes["url"] = owner_url
    return config


def main() -> None:
    """Upgrade the database of the settings."""
    owner = settings().database_owner_url or settings().database_url
    if owner is None:
        raise SettingsError("FEDERATION_DATABASE_OWNER_URL: got nothing, wants the URL of the owner of the tables; or run `federation up`")
    command.upgrade(configuration(owner.get_secret_value()), "head")


if __name__ == "__main__":
    main()
