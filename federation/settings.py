"""Every setting of the program, read once from `FEDERATION_*` and `<data_dir>/settings.json`; nothing else reads the environment."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, JsonConfigSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from federation.errors import NotFound, SettingsError

PREFIX = "FEDERATION_"


def _default_data_dir() -> Path:
    # PostgreSQL refuses to run as root, and `nobody` cannot enter root's home: so root's data lie where services' data do.
    if os.geteuid() == 0:
        return Path("/var/lib/federation")
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "federation"


def _default_cache_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/cache/federation")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "federation"


Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """Settings, frozen; the environment wins over `<data_dir>/settings.json`, which `federation up` writes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    data_dir: Path = Field(default_factory=_default_data_dir, description="Where local services, logs, vectors and the file of settings lie.")
    cache_dir: Path = Field(default_factory=_default_cache_dir, description="Where fetched programs are kept (ActiveMQ's jars); safe to delete.")
    activemq_home: Path | None = Field(
        None,
        validation_alias=AliasChoices("ACTIVEMQ_HOME", "activemq_home"),
        description="Folder of an unpacked ActiveMQ Classic for `federation up`; the one variable without our prefix, because ActiveMQ names it.",
    )
    broker_url: SecretStr | None = Field(
        None, description="ActiveMQ, as activemq://user:password@host:61613/ ; unset: the local one of `federation up`."
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL as the unprivileged role `app`: postgresql://user:password@host:5432/federation"
    )
    database_owner_url: SecretStr | None = Field(None, description="PostgreSQL as the owner of the tables; migrations only.")
    database_service_url: SecretStr | None = Field(None, description="PostgreSQL as the role `service`: beat and the relay of the outbox.")
    database_auditor_url: SecretStr | None = Field(None, description="PostgreSQL as the role `auditor`, which only reads.")
    result_expires_s: Seconds = Field(7 * 86400, description="Seconds that the result of an execution is kept.")

    mcp_host: str = Field("127.0.0.1", description="Address that the front door binds.")
    mcp_port: int = Field(8765, ge=1, le=65535, description="Port of the front door.")
    mcp_allowed_hosts: list[str] = Field(
        default_factory=list, description="Names, as a JSON list, by which clients call the front door beside localhost and this machine's own."
    )
    token: SecretStr | None = Field(None, description="Token of the agent that speaks over `federation mcp` (stdio).")
    flower_port: int = Field(5555, ge=1, le=65535, description="Port of Flower.")
    flower_user: str = Field("operator", description="User of Flower's pages.")
    flower_password: SecretStr | None = Field(None, description="Password of Flower's pages; made at first start by `federation up`.")

    workers_dir: Path | None = Field(None, description="Folder of node files (`<node>.toml`); unset: the ones that ship with the program.")
    vectors_dir: Path | None = Field(None, description="Folder of LanceDB on the node tagged `frag`; unset: <data_dir>/vectors.")
    index_roots: list[Path] = Field(
        default_factory=list, description="Folders that may be indexed, as a JSON list; empty: any folder that the node can read."
    )

    node_beat_s: Seconds = Field(2.0, description="Seconds between two signs of life of a node.")
    node_stale_s: Seconds = Field(6.0, description="Seconds without a sign of life after which a node counts as stale and gets no work.")
    agent_stale_s: Seconds = Field(600.0, description="Seconds without a word after which an agent's state is shown as stale.")
    heartbeat_s: Seconds = Field(5.0, description="Seconds between two `federation.tasks.cop.heartbeat` of a node.")
    outbox_sweep_s: Seconds = Field(2.0, description="Seconds between two sweeps of the outbox.")
    max_deliveries: int = Field(5, ge=1, description="Deliveries of one execution after which it is quarantined.")
    claim_ttl_s: float = Field(300.0, ge=1, le=86_400, description="Seconds that a claim holds when the claimer names none.")
    summary_window: int = Field(12, ge=2, description="Messages of a conversation that make a window of a summary.")
    summary_check_s: Seconds = Field(5.0, description="Seconds between two looks for conversations whose window is due.")

    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR.")
    log_json: bool = Field(False, description="One JSON object a line instead of text.")

    @field_validator("broker_url", "database_url", "database_owner_url", "database_service_url", "database_auditor_url")
    @classmethod
    def _is_url(cls, value: SecretStr | None, field: ValidationInfo) -> SecretStr | None:
        wanted = "activemq" if field.field_name == "broker_url" else "postgresql"
        if value is not None:
            parts = urlsplit(value.get_secret_value())
            if parts.scheme != wanted or not parts.hostname:
                raise ValueError(f"a URL such as {wanted}://user:password@host:port/")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given = {**env_settings(), **init_settings()}
        data_dir = Path(given.get("data_dir") or _default_data_dir())
        return init_settings, env_settings, JsonConfigSettingsSource(settings_cls, json_file=data_dir / "settings.json")


def _refuse_unknown_variables() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise SettingsError(str(NotFound("setting", name, known)))


def _shown(value: object) -> str:
    # A password in a URL that is wrong otherwise is still a password.
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:•••@", repr(value))


def load(**overrides: Any) -> Settings:
    """Read the settings anew.

    Raises SettingsError with each variable's name, what it got and what it wants.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'_'.join(str(part) for part in problem['loc']).upper()}: got {_shown(problem['input'])}, wants: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise SettingsError("\n".join(lines)) from error
    except PermissionError as error:
        raise SettingsError(f"{error.filename} cannot be read by this user; set {PREFIX}DATA_DIR to a folder of yours") from error


@cache
def settings() -> Settings:
    """Return the settings of this process, read at the first call."""
    return load()
