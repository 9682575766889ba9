"""Reads `workers/<node>.toml`, what a node is meant to be; what the machine really has is found elsewhere."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from federation import charter
from federation.errors import NotFound, SettingsError
from federation.placement import model_server
from federation.placement.model_server import ModelServer
from federation.placement.node import Gpu
from federation.settings import masked, settings

# The names of queues that are no node's.
RESERVED = frozenset({"node", "events", "broadcast"})

_PACKAGE = Path(__file__).resolve().parent.parent
_SHIPPED = (_PACKAGE.parent / "workers", _PACKAGE / "_workers")

MOST_PLACES = 256

NAME = "[a-z][a-z0-9_-]{0,39}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]


class Gpus(BaseModel):
    """Equal cards of a node; memory in GiB on each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Annotated[int, Field(ge=0, le=64)] = 0
    vram_gib: Annotated[float, Field(gt=0)]
    kind: str


class NodeFile(BaseModel):
    """A node as its file declares it; `simulated` keeps what the machine lacks, for tests of placement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    role: Name
    tags: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    gpus: Gpus | None = None
    concurrency: Annotated[int, Field(ge=1, le=MOST_PLACES)] = 1
    pool: Literal["prefork", "threads"] = "threads"
    simulated: bool = False
    servers: tuple[ModelServer, ...] = ()

    @field_validator("servers")
    @classmethod
    def _have_names_of_their_own(cls, value: tuple[ModelServer, ...]) -> tuple[ModelServer, ...]:
        names = [server.name for server in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"servers with names of their own; {', '.join(twice)} stands there more than once")
        return value

    def with_served(self) -> Self:
        """Return the same with what its servers make of it: their engine, their models, the tag of those that may write summaries, and places.

        So many places as the servers have are those of a node that only asks servers, on threads, and names no number.
        """
        if not self.servers:
            return self
        places = {}
        if self.pool == "threads" and not self.engines and "concurrency" not in self.model_fields_set:
            places = {"concurrency": min(sum(server.parallel for server in self.servers), MOST_PLACES)}
        engines = dict.fromkeys((*self.engines, model_server.ENGINE))
        models = dict.fromkeys((*self.models, *(server.model for server in self.servers)))
        tags = dict.fromkeys((*self.tags, *([model_server.SUMMARISES] if any(server.summarises for server in self.servers) else ())))
        return self.model_copy(update={"engines": tuple(engines), "models": tuple(models), "tags": tuple(tags), **places})

    def cards(self) -> tuple[Gpu, ...]:
        """Return the declared cards, one value each."""
        return (Gpu(kind=self.gpus.kind, vram_gib=self.gpus.vram_gib),) * self.gpus.count if self.gpus else ()


def folder(workers_dir: Path | None = None) -> Path:
    """Return the folder of node files: this one, else the one that is set, else the one that ships with the program.

    Raises SettingsError if it is not there.
    """
    chosen = workers_dir or settings().workers_dir
    candidates = (chosen,) if chosen else _SHIPPED
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise SettingsError(f"FEDERATION_WORKERS_DIR: got {candidates[0]}, wants a folder with a file <node>.toml for each node")


def names(workers_dir: Path | None = None) -> list[str]:
    """Return the names of all nodes that have a file, sorted."""
    return sorted(path.stem for path in folder(workers_dir).glob("*.toml"))


def node_file(name: str, workers_dir: Path | None = None) -> NodeFile:
    """Read the file of a node.

    Raises NotFound with the nearest names, SettingsError with the file, the field, what it got and what it wants.
    """
    where = folder(workers_dir)
    known = names(workers_dir)
    if name not in known:
        raise NotFound("node", name, known)
    path = where / f"{name}.toml"
    if name in RESERVED:
        raise SettingsError(f"{path}: {name!r} is the name of a queue of the federation; call the node otherwise")
    try:
        declared = NodeFile.model_validate({"name": name, **tomllib.loads(path.read_text("utf-8"))})
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, problem['loc']))}: got {masked(repr(problem['input']))}, wants: {problem['msg']}"
            for problem in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from error
    if declared.role not in (roles := charter.charter().roles):
        raise SettingsError(f"{path}: role: got {declared.role!r}, wants a role of the charter {charter.path()}: {', '.join(roles)}")
    return declared.with_served()
