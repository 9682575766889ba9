"""Every setting of the program, read once from `FEDERATION_*` and `<data_dir>/settings.json`; nothing else reads the environment."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, JsonConfigSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

from federation.errors import NotFound, SettingsError

PREFIX = "FEDERATION_"
BROKER_URLS = ("broker_url", "broker_worker_url", "broker_door_url", "broker_relay_url", "broker_stomp_url", "broker_observer_url")
DATABASE_URLS = ("database_url", "database_owner_url", "database_service_url", "database_auditor_url")


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


def _absolute(path: Path) -> Path:
    # A relative one would be another folder for each part, because each has a working directory of its own.
    if not path.expanduser().is_absolute():
        raise ValueError(f"an absolute path, such as {path.absolute()}")
    return path.expanduser()


Seconds = Annotated[float, Field(gt=0)]
Folder = Annotated[Path, AfterValidator(_absolute)]


class Settings(BaseSettings):
    """Settings, frozen; the environment wins over `<data_dir>/settings.json`, which `federation up` writes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    data_dir: Folder = Field(default_factory=_default_data_dir, description="Where local services, logs, vectors and the file of settings lie.")
    cache_dir: Folder = Field(
        default_factory=_default_cache_dir, description="Where fetched programs are kept (ActiveMQ's jars, stunnel); safe to delete."
    )
    activemq_home: Folder | None = Field(
        None,
        validation_alias=AliasChoices("ACTIVEMQ_HOME", "activemq_home"),
        description="Folder of an unpacked ActiveMQ Classic for `federation up`; the one variable without our prefix, because ActiveMQ names it.",
    )
    broker_url: SecretStr | None = Field(
        None, description="ActiveMQ, as activemq://user:password@host:61613/ ; unset: the local one of `federation up`."
    )
    broker_worker_url: SecretStr | None = Field(
        None, description="ActiveMQ as the user of the workers that `federation up` starts; unset: as for all others."
    )
    broker_door_url: SecretStr | None = Field(None, description="The same for the front door that `federation up` starts.")
    broker_relay_url: SecretStr | None = Field(None, description="The same for beat, with its relay of events, that `federation up` starts.")
    broker_stomp_url: SecretStr | None = Field(None, description="The same for the agents' door to STOMP that `federation up` starts.")
    broker_observer_url: SecretStr | None = Field(
        None,
        description="ActiveMQ as the user `observer`, which reads events and commands nobody: Flower, and clients of yours.",
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL as the unprivileged role `app`: postgresql://user:password@host:5432/federation"
    )
    database_owner_url: SecretStr | None = Field(None, description="PostgreSQL as the owner of the tables; migrations only.")
    database_service_url: SecretStr | None = Field(
        None, description="PostgreSQL as the role `service`: delivery, results, beat, and operators at the command line; each part needs it."
    )
    database_auditor_url: SecretStr | None = Field(None, description="PostgreSQL as the role `auditor`, which only reads.")
    result_expires_s: Seconds = Field(7 * 86400, description="Seconds that the result of an execution is kept.")

    tls: bool = Field(
        False,
        description="Whether the PostgreSQL, the ActiveMQ, the Flower, the front door and the STOMP door that `federation up` starts speak TLS and "
        "nothing else; first: federation tls init.",
    )

    mcp_host: str = Field("127.0.0.1", description="Address that the front door binds.")
    mcp_port: int = Field(8765, ge=1, le=65535, description="Port of the front door.")
    mcp_processes: int = Field(0, ge=0, le=64, description="Processes of the front door; 0: one for each processor that it may use, up to 4.")
    mcp_allowed_hosts: list[str] = Field(
        default_factory=list, description="Names, as a JSON list, by which clients call the front door beside localhost and this machine's own."
    )
    tools: Literal["all", "core"] = Field(
        "all", description="Which tools the front door offers: `core` are those to speak, look around, take work and read results."
    )
    mcp_url: str | None = Field(
        None, description="URL by which clients reach the front door, such as https://fed.example/mcp ; unset: host and port."
    )
    stomp_host: str = Field("127.0.0.1", description="Address that the STOMP door binds.")
    stomp_port: int = Field(61612, ge=1, le=65535, description="Port of the STOMP door, where agents that speak STOMP connect.")
    jwt_issuer: str | None = Field(None, description="Issuer (`iss`) whose JWTs the front door takes beside its own tokens; unset: none.")
    jwt_keys: str | None = Field(None, description="The issuer's keys: an absolute path of a public key in PEM, or the URL of its JWKS.")
    jwt_audience: str | None = Field(None, description="Audience (`aud`) that a JWT must name; unset: the URL of the front door.")
    jwt_algorithm: Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"] = Field(
        "RS256", description="The one algorithm that JWTs may be signed with."
    )
    jwt_claim: str = Field("sub", min_length=1, description="Claim of a JWT that is the name of an agent, who must have been added.")
    token: SecretStr | None = Field(None, description="Token of the agent that speaks over `federation mcp` (stdio).")
    token_days: float = Field(365.0, ge=0, le=36_500, description="Days that a new token of an agent lasts unless told otherwise; 0: for ever.")
    flower_port: int = Field(5555, ge=1, le=65535, description="Port of Flower.")
    flower_user: str = Field("operator", description="User of Flower's pages.")
    flower_password: SecretStr | None = Field(None, description="Password of Flower's pages; made at first start by `federation up`.")
    flower_control: bool = Field(
        False, description="Whether Flower may command workers: shut them down, revoke, change pools; else it only shows them."
    )

    workers_dir: Folder | None = Field(None, description="Folder of node files (`<node>.toml`); unset: the ones that ship with the program.")
    charter: Folder | None = Field(
        None, description="File of the charter: roles, and what agents of each may do; unset: the one that ships with the program."
    )
    vectors_dir: Folder | None = Field(None, description="Folder of LanceDB on the node tagged `frag`; unset: <data_dir>/vectors.")
    index_roots: list[Folder] = Field(
        default_factory=list, description="Folders that may be indexed, as a JSON list; empty: any folder that the node can read."
    )

    artifacts_dir: Folder | None = Field(
        None,
        description="Folder of what is in artifacts, the same for all machines that put or get any, such as a mount of NFS; it must be there. "
        "Unset: <data_dir>/artifacts, of this machine alone.",
    )

    remote_models: bool = Field(
        False,
        description="Whether nodes may ask model servers on other machines; else only those of their files whose URL is on loopback.",
    )
    vllm_python: Folder | None = Field(
        None, description="Python of the environment in which vLLM is installed, for `federation model serve`; unset: it serves by llama.cpp only."
    )
    remember_answers: bool = Field(
        False, description="Whether agents remember each question to a model with its answer where that is good enough, unless they say otherwise."
    )
    embedding_device: Literal["auto", "cpu", "cuda"] = Field(
        "cpu", description="What embeds: `cpu`; `cuda`, a GPU, which must be there; `auto`, a GPU where torch sees one, and the CPU elsewhere."
    )

    node_beat_s: Seconds = Field(2.0, description="Seconds between two signs of life of a node.")
    node_stale_s: Seconds = Field(6.0, description="Seconds without a sign of life after which a node counts as stale and gets no work.")
    agent_stale_s: Seconds = Field(600.0, description="Seconds without a word after which an agent's state is shown as stale.")
    heartbeat_s: Seconds = Field(5.0, description="Seconds between two `federation.tasks.cop.heartbeat` of a node.")
    time_limit_s: Seconds = Field(3600.0, description="Seconds that an execution may run, unless its task has a limit of its own; then it fails.")
    outbox_sweep_s: Seconds = Field(2.0, description="Seconds between two sweeps of the outbox.")
    max_deliveries: int = Field(5, ge=1, description="Deliveries of one execution after which it is quarantined.")
    claim_ttl_s: float = Field(300.0, ge=1, le=86_400, description="Seconds that a claim holds when the claimer names none.")
    escalate_s: float = Field(
        600.0, ge=0, le=30 * 86_400, description="Seconds after which a task that nobody has taken is told to those who may hand out work; 0: never."
    )
    summary_window: int = Field(12, ge=2, description="Messages of a conversation that make a window of a summary.")
    summary_check_s: Seconds = Field(5.0, description="Seconds between two looks for conversations whose window is due.")

    messages_per_minute: int = Field(1200, ge=0, le=1_000_000, description="Messages that one agent may send in a minute; 0: any number.")
    states_per_minute: int = Field(600, ge=0, le=1_000_000, description="Times that one agent may tell what it is doing in a minute; 0: any number.")
    searches_per_minute: int = Field(600, ge=0, le=1_000_000, description="Searches of one agent in a minute; 0: any number.")
    indexings_per_hour: int = Field(600, ge=0, le=1_000_000, description="Times that one agent may have a folder indexed in an hour; 0: any number.")
    memories_per_minute: int = Field(600, ge=0, le=1_000_000, description="Things that one agent may remember in a minute; 0: any number.")
    memory_summary_days: float = Field(
        30.0, ge=0, le=36_500, description="Days after which what an agent remembers for itself alone of one subject is summed up; 0: never."
    )
    memories_per_agent: int = Field(10_000, ge=0, le=1_000_000, description="Things that one agent may remember at a time; 0: any number.")
    open_tasks_per_agent: int = Field(1000, ge=0, le=1_000_000, description="Tasks of one agent that may wait or be worked on; 0: any number.")
    claims_per_agent: int = Field(1000, ge=0, le=1_000_000, description="Resources that one agent may hold at a time; 0: any number.")
    inference_tokens_per_day: int = Field(
        5_000_000, ge=0, le=10**12, description="Tokens that models may read and write for one agent in a day; 0: any number."
    )
    cached_answers: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Answers of models that are kept for who asks nearly the same with `cache`; 0: none is kept or given again.",
    )
    cached_answers_per_conversation: int = Field(
        200, ge=1, le=10_000, description="How many of these are of one conversation, or of one agent who asked in none."
    )
    cached_answer_s: Seconds = Field(86_400.0, description="Seconds for which an answer of a model is given again.")
    cached_answer_similarity: float = Field(
        0.95, ge=0.8, le=1, description="How near a prompt must be to the one before: the cosine of their vectors; 1: the same prompt only."
    )
    artifact_bytes: int = Field(100 * 2**20, ge=0, le=2**50, description="Bytes that one artifact may have; 0: any number.")
    artifact_bytes_per_day: int = Field(
        10 * 2**30, ge=0, le=2**60, description="Bytes that one agent may put into artifacts in a day; 0: any number."
    )

    seals_dir: Folder | None = Field(
        None, description="Folder of beat's signing key and of the file of seals over the event log; unset: <data_dir>/seals."
    )
    seal_s: Seconds = Field(30.0, description="Seconds between two seals over the event log.")

    keys_dir: Folder | None = Field(
        None, description="Folder of the keys that this machine's parts and agents sign with; made at first start; unset: <data_dir>/keys."
    )
    signatures: Literal["required", "accepted"] = Field(
        "required", description="`required`: workers put aside what is not signed; `accepted`: they run it, and check what is signed."
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much is logged.")
    log_json: bool = Field(False, description="One JSON object a line instead of text.")

    @field_validator(*BROKER_URLS, *DATABASE_URLS)
    @classmethod
    def _is_url(cls, value: SecretStr | None, field: ValidationInfo) -> SecretStr | None:
        if value is not None:
            of_broker = field.field_name in BROKER_URLS
            shape = "activemq://user:password@host:61613/" if of_broker else "postgresql://user:password@host:5432/federation"
            parts = urlsplit(value.get_secret_value())
            schemes = {"activemq", "activemqs"} if of_broker else {"postgresql"}
            if parts.scheme not in schemes or not parts.hostname or not _has_port(parts):
                raise ValueError(f"a URL such as {shape}")
        return value

    @field_validator("mcp_url", "jwt_issuer")
    @classmethod
    def _is_web_url(cls, value: str | None, field: ValidationInfo) -> str | None:
        if value is not None:
            shape = "https://fed.example/mcp" if field.field_name == "mcp_url" else "https://login.example/realms/lab"
            parts = urlsplit(value)
            wrong_path = field.field_name == "mcp_url" and not parts.path.endswith("/mcp")
            if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_port(parts) or wrong_path:
                raise ValueError(f"a URL such as {shape}")
        return value

    @field_validator("data_dir")
    @classmethod
    def _is_no_file(cls, value: Path) -> Path:
        if value.exists() and not value.is_dir():
            raise ValueError("a folder, and this is a file")
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
        return init_settings, env_settings, JsonConfigSettingsSource(settings_cls, json_file=_file(given.get("data_dir")))


def _file(data_dir: object) -> Path:
    return (Path(str(data_dir)).expanduser() if data_dir else _default_data_dir()) / "settings.json"


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else PREFIX + name.upper()


def in_environment(name: str) -> bool:
    """Say whether a setting has its value from the environment, whatever the file says."""
    return any(value and key.upper() == variable(name) for key, value in os.environ.items())


def origin(name: str, file: Path) -> str:
    """Return where a setting that is not in the environment has its value from, for an error that has just told its variable and the value."""
    return "" if in_environment(name) else f" in {file}"


def _refuse_unknown_variables() -> None:
    known = {variable(name) for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise SettingsError(str(NotFound("setting", name, known)))


def masked(text: str) -> str:
    """Return a text with the passwords of the URLs in it hidden; a password may hold what had to be percent-encoded."""
    return re.sub(r"(//[^:/@\s]*):.*@", r"\1:•••@", text)


def load(**overrides: Any) -> Settings:
    """Read the settings anew.

    Raises SettingsError with each variable's name, what it got and what it wants.
    """
    _refuse_unknown_variables()
    file = _file(overrides.get("data_dir") or os.environ.get(f"{PREFIX}DATA_DIR"))
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_told(problem, file) for problem in error.errors(include_url=False))) from error
    except UnreadableVariable as error:
        name = variable(re.findall(r'field "(\w+)"', str(error))[0])
        raise SettingsError(f'{name}: got {os.environ.get(name)!r}, wants JSON, such as ["/srv/code"]') from error
    except PermissionError as error:
        raise SettingsError(f"{error.filename} cannot be read by this user; set {PREFIX}DATA_DIR to a folder of yours") from error
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{file} does not hold an object of JSON ({error}); correct it or remove it") from error


def _told(problem: ErrorDetails, file: Path) -> str:
    field, *place = problem["loc"]
    name = str(field).lower()
    if problem["type"] == "extra_forbidden":
        return f"{file}: {NotFound('setting', name, Settings.model_fields)}"
    where = variable(name) + "".join(f"[{step}]" for step in place)
    value = problem["input"]
    got = masked(repr(str(value) if isinstance(value, Path) else value))
    return f"{where}: got {got}{origin(name, file)}, wants {problem['msg'].removeprefix('Value error, ').removeprefix('Input should be ')}"


@cache
def settings() -> Settings:
    """Return the settings of this process, read at the first call."""
    return load()
