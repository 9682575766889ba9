"""What an engine promises to its callers: values and protocols; runs no model."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

from federation.errors import InvalidInput, PermanentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# So few texts are questions: who asks waits for nobody. More are many, which an engine embeds behind all else.
FEW: Final = 4

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
class Asked:
    """What a chat model is asked: `messages` to answer, or one text to go on with (`raw`); temperature 0 is greedy.

    With a JSON `schema` the answer is JSON that fits it, as far as the runner sees to it. Raises InvalidInput.
    """

    messages: Sequence[ChatMessage]
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    stop: Sequence[str] = ()
    schema: Mapping[str, Any] | None = None
    raw: bool = False

    def __post_init__(self) -> None:
        if not self.messages:
            raise InvalidInput("messages", [], "at least one message")
        if self.raw and len(self.messages) > 1:
            raise InvalidInput("messages", len(self.messages), "one text to go on with")
        if self.max_tokens < 1:
            raise InvalidInput("max_tokens", self.max_tokens, "1 or more")

    def request(self) -> dict[str, Any]:
        """Return it as OpenAI's API wants it, for a stream of parts."""
        sampling = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed, "stop": list(self.stop)}
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        # An empty one is one too: any JSON.
        fits = None if self.schema is None else {"name": "answer", "strict": True, "schema": dict(self.schema)}
        form = {} if fits is None else {"response_format": {"type": "json_schema", "json_schema": fits}}
        prompt: dict[str, Any] = (
            {"prompt": self.messages[0].content}
            if self.raw
            else {"messages": [{"role": message.role, "content": message.content} for message in self.messages]}
        )
        return prompt | sampling | streamed | form


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer; `finish_reason` is `length` when max_tokens or the window cut it, `first_part_s` the time to its first part."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason
    seconds: float
    first_part_s: float | None = None


class Halted(PermanentError):
    """An answer was ended before it was whole, because nobody wants it any more."""


class Halt:
    """Ends an answer while it is made, from any thread; what was ended stays so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None
        self._is_set = False

    @property
    def is_set(self) -> bool:
        """Whether the answer is not wanted any more."""
        return self._is_set

    def set(self) -> None:
        """End it now."""
        with self._lock:
            self._is_set = True
            if self._end is not None:
                self._end()

    @contextmanager
    def by(self, end: Callable[[], None]) -> Iterator[None]:
        """While the block runs, end it by calling `end`. Raises Halted where it was ended before, or is by the end of the block."""
        with self._lock:
            if self._is_set:
                raise Halted("it was ended before it began")
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None
        self.check()

    def check(self) -> None:
        """Pass unless it was ended. Raises Halted."""
        if self._is_set:
            raise Halted("it was ended before it was whole")


# Called with each part of an answer, in order; what it raises ends the answer.
Hear = Callable[[str], None]


def nobody(part: str) -> None:
    """Hear a part, and do nothing."""


# Called once, when a question is on its way and before a part of its answer is heard; what it raises ends the answer.
Meanwhile = Callable[[], object]


def nothing() -> None:
    """Do nothing meanwhile."""


class Engine(Protocol):
    """A loaded model; safe to share between threads, never between processes."""

    @property
    def name(self) -> str: ...
    @property
    def window(self) -> int:
        """Tokens that the model reads at once."""
        ...


class EmbeddingEngine(Engine, Protocol):
    """Texts to vectors."""

    def digest(self) -> str:
        """Return the sha256 of the weights, hexadecimal."""
        ...

    @property
    def dim(self) -> int: ...

    def embed(self, texts: Sequence[str], *, truncate_at: int | None = None) -> "NDArray[np.float32]":
        """Return unit vectors, shape (len(texts), dim); `truncate_at` is in tokens.

        Raises ContextLengthError if a text is longer than the window and `truncate_at` is None.
        """
        ...


class ChatEngine(Engine, Protocol):
    """Messages to an answer."""

    def digest(self) -> str | None:
        """Return the sha256 of the weights, hexadecimal; None where nobody can tell it."""
        ...

    def complete(self, asked: Asked, *, hear: Hear = nobody, halt: Halt | None = None, meanwhile: Meanwhile = nothing) -> Completion:
        """Answer, and tell each part as it comes.

        Raises ContextLengthError if the prompt is longer than the window, InvalidInput for a request that the model cannot take, EngineUnavailable
        where the same may succeed later or elsewhere, Halted if the answer was ended.
        """
        ...
