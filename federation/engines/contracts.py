"""What an engine promises to its callers: values and protocols; runs no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from federation.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation with a chat model.

    Raises InvalidInput for a role that chat models do not know.
    """

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InvalidInput("role", self.role, "one of " + ", ".join(get_args(Role)))


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer; `finish_reason` is `length` when max_tokens or the window cut it."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason
    seconds: float


class Engine(Protocol):
    """A loaded model; safe to share between threads, never between processes."""

    @property
    def name(self) -> str: ...
    @property
    def window(self) -> int:
        """Tokens that the model reads at once."""
        ...

    def digest(self) -> str:
        """Return the sha256 of the weights, hexadecimal."""
        ...


class EmbeddingEngine(Engine, Protocol):
    """Texts to vectors."""

    @property
    def dim(self) -> int: ...

    def embed(self, texts: Sequence[str], *, truncate_at: int | None = None) -> "NDArray[np.float32]":
        """Return unit vectors, shape (len(texts), dim); `truncate_at` is in tokens.

        Raises ContextLengthError if a text is longer than the window and `truncate_at` is None.
        """
        ...


class ChatEngine(Engine, Protocol):
    """Messages to an answer."""

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 256, temperature: float = 0.0, seed: int = 0, stop: Sequence[str] = ()
    ) -> Completion:
        """Answer the last message.

        Raises ContextLengthError if the prompt is longer than the window, InvalidInput for a request that the model cannot take.
        """
        ...
