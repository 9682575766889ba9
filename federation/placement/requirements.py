"""What an execution needs of a node, as a value."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Asked for in place of an engine's name: any of those that answer questions.
CHAT = "chat"
CHAT_ENGINES = ("openai", "llamacpp")


class Requirements(BaseModel):
    """What a node must have; an empty value asks for nothing. Units: GiB of memory on one card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str | None = None
    role: str | None = None
    min_vram_gib: Annotated[float, Field(ge=0)] = 0
    gpus: Annotated[int, Field(ge=0)] = 0
    engine: str | None = None
    model: str | None = None
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        asked = self.model_dump(exclude_defaults=True)
        return ", ".join(f"{name}={value if not isinstance(value, tuple) else '+'.join(value)}" for name, value in asked.items()) or "any node"
