"""A node as placement sees it, as a value."""

from pydantic import BaseModel, ConfigDict


class Gpu(BaseModel):
    """One card; memory in GiB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    vram_gib: float


class NodeView(BaseModel):
    """A node, what it has, whether it lives, and how much work it has that is not finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    role: str
    tags: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    concurrency: int = 1
    alive: bool = True
    outstanding: int = 0
