"""Texts to batches of tokens, and vectors back in the order of the texts; computes none itself, and never asks a hub for anything.

Texts are tokenised a group ahead of the model, outside of Python's lock. Questions that come at the same time are computed together.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from federation.engines.contracts import FEW
from federation.engines.digests import Weights
from federation.errors import ContextLengthError, InvalidInput
from federation.together import Together

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

# Texts that are tokenised at once, while the model computes those before them.
_GROUP: Final = 1024

# The tokens of texts that are computed together.
Batch: TypeAlias = Sequence[list[int]]


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield indices, short texts first, so that a batch holds at most `batch_tokens` with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class TextEncoder(ABC):
    """A loaded model; its tokenizer puts one token before a text and one behind it, as those of the BERT family do."""

    def __init__(self, weights: Weights, tokenizer: "Tokenizer", *, name: str, dim: int, window: int, batch_tokens: int) -> None:
        self.name, self.dim, self.window, self._batch_tokens = name, dim, window, batch_tokens
        self._weights, self._tokenizer = weights, tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self._together = Together(self._questions)

    @abstractmethod
    def _few(self, batches: Iterable[Batch]) -> "NDArray[np.float32]":
        """Return unit vectors of texts for which somebody waits, batch by batch."""

    @abstractmethod
    def _many(self, batches: Iterable[Batch]) -> "NDArray[np.float32]":
        """Return unit vectors of many texts, batch by batch."""

    def digest(self) -> str:
        """Return the sha256 of the weights, hexadecimal."""
        return self._weights.digest

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, with the two that the model adds."""
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def embed(self, texts: Sequence[str], *, truncate_at: int | None = None) -> "NDArray[np.float32]":
        """Return unit vectors, shape (len(texts), dim); `truncate_at` (3 tokens up to the window) cuts longer texts instead of refusing them.

        Raises ContextLengthError if a text is longer than the window and `truncate_at` is None, EngineUnavailable if the GPU has no room.
        """
        import numpy as np  # noqa: PLC0415 - a node without models has none

        if truncate_at is not None and not 3 <= truncate_at <= self.window:
            raise InvalidInput("truncate_at", truncate_at, f"3 to {self.window} tokens, or None to refuse longer texts")
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        order: list[int] = []
        tokenized = self._batched(texts, truncate_at, order)
        # A question is computed with whatever others came meanwhile: of several at once each would only take the cores from the others.
        vectors = self._together(list(chain.from_iterable(tokenized))) if len(texts) <= FEW else self._many(tokenized)
        return np.asarray(vectors[np.argsort(order)])

    def _questions(self, asked: Sequence[Batch]) -> "list[NDArray[np.float32]]":
        import numpy as np  # noqa: PLC0415

        tokens = list(chain.from_iterable(asked))
        # Those of a length together, because short ones would be padded to long ones.
        found = list(batches([len(row) for row in tokens], self._batch_tokens))
        computed = self._few([tokens[row] for row in batch] for batch in found)
        vectors = computed[np.argsort(list(chain.from_iterable(found)))]
        return np.split(vectors, np.cumsum([len(question) for question in asked])[:-1])

    def _batched(self, texts: Sequence[str], truncate_at: int | None, order: list[int]) -> Iterator[Batch]:
        """Yield the tokens of texts a batch at a time, and note in `order` which texts these are."""
        limit = truncate_at or self.window
        # The longest first, so that most texts over the window are refused before anything is computed.
        by_length = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        groups = [by_length[start : start + _GROUP] for start in range(0, len(by_length), _GROUP)]

        def tokenized(group: list[int]) -> list[Any]:
            some = [texts[index] for index in group]
            # Many are spread over the cores, which for a question takes longer than to encode it.
            return list(self._tokenizer.encode_batch_fast(some)) if len(some) > FEW else list(map(self._tokenizer.encode, some))

        # Of one group nothing is ahead, and nobody else's is waited for.
        ahead = self._ahead.map(tokenized, groups) if len(groups) > 1 else map(tokenized, groups)
        for group, encodings in zip(groups, ahead, strict=True):
            lengths = [len(encoding) for encoding in encodings]
            if truncate_at is None and max(lengths) > self.window:
                raise ContextLengthError(max(lengths), self.window)
            for batch in batches([min(length, limit) for length in lengths], self._batch_tokens):
                order += [group[index] for index in batch]
                yield [self._cut(encodings[index].ids, limit) for index in batch]

    @staticmethod
    def _cut(ids: list[int], limit: int) -> list[int]:
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
