"""Static embeddings: the mean of the vectors of a text's words, 256 dimensions; thousands of texts a second, and no model that runs.

The vectors are wordllama's. Each word weighs by how rare its tokens are, which the order of the vocabulary tells (a token of the tokenizer's
was merged the later, the rarer it is), and by 1 + log of how often the text has it. So a vector depends on its text alone, and on no corpus.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from federation.engines import digests
from federation.engines.digests import Weights
from federation.engines.loading import OncePerProcess
from federation.engines.weights import in_package
from federation.errors import InvalidInput, ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME: Final = "wordllama-l2-supercat-256"
TOKENIZER: Final = f"{NAME} tokenizer"
DIM: Final = 256
# It reads texts of any length; a number all the same, because callers compare with it.
WINDOW: Final = 2**20
_FEW: Final = 64
# What comes first in the vocabulary is no word: signs and single bytes.
_FIRST_WORD: Final = 259


def weights_path() -> Path | None:
    """Return where the weights are installed, None if they are not."""
    return in_package("wordllama", "weights/l2_supercat_256.safetensors")


def tokenizer_path() -> Path | None:
    """Return where the tokenizer is installed, None if it is not."""
    return in_package("wordllama", "tokenizers/l2_supercat_tokenizer_config.json")


def checked() -> Weights:
    """Return the weights after a look at them and at the tokenizer. Raises ModelUnavailable, WeightsChanged."""
    weights, tokenizer = weights_path(), tokenizer_path()
    if weights is None or tokenizer is None:
        raise ModelUnavailable(f"{NAME} is not installed on this machine; install it: pip install 'federation[embedding]'")
    digests.check(TOKENIZER, tokenizer, tokenizer)
    return digests.check(NAME, weights, weights)


class StaticEncoder:
    """The vectors of words, and the sum of them for texts."""

    def __init__(self, weights: Weights, vectors: "NDArray[np.float32]", tokenizer: Any) -> None:
        self.name, self.dim, self.window = NAME, DIM, WINDOW
        self._weights, self._vectors, self._tokenizer = weights, vectors, tokenizer

    def digest(self) -> str:
        """Return the sha256 of the weights, hexadecimal."""
        return self._weights.digest

    def embed(self, texts: Sequence[str], *, truncate_at: int | None = None) -> "NDArray[np.float32]":
        """Return unit vectors, shape (len(texts), 256), zeros for a text without a word; words are what blanks divide.

        No text is too long; `truncate_at`, which other engines need, must be None.
        """
        # A node that has no models has none of these.
        import numpy as np  # noqa: PLC0415
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import compute  # noqa: PLC0415
        from scipy.sparse import csr_matrix  # noqa: PLC0415

        if truncate_at is not None:
            raise InvalidInput("truncate_at", truncate_at, "None: no text is too long")
        if not texts:
            return np.empty((0, DIM), dtype=np.float32)
        split = compute.utf8_split_whitespace(pa.array(texts, pa.large_string()))
        words = split.flatten().dictionary_encode()
        # Copies, because scipy sorts them where they are.
        columns, starts = (values.to_numpy().copy() for values in (words.indices, split.offsets))
        counts = csr_matrix((np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(texts), len(words.dictionary)))
        counts.sum_duplicates()
        counts.data = 1 + np.log(counts.data)
        return _as_long_as(np.asarray(counts @ self._of_words(words.dictionary.to_pylist()), dtype=np.float32), np.float32(1))

    def _one_by_one(self, words: Sequence[str], *, add_special_tokens: bool) -> list[Any]:
        return [self._tokenizer.encode(word, add_special_tokens=add_special_tokens) for word in words]

    def _of_words(self, words: Sequence[str]) -> "NDArray[np.float32]":
        """Return a vector for each word, as long as the word weighs."""
        import numpy as np  # noqa: PLC0415
        from scipy.sparse import csr_matrix  # noqa: PLC0415

        # Many are spread over the cores, which for a question takes longer than to encode it.
        encode = self._tokenizer.encode_batch_fast if len(words) > _FEW else self._one_by_one
        encoded = [encoding.ids for encoding in encode(words, add_special_tokens=False)]
        starts = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded])])
        tokens = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in encoded]) if words else np.empty(0, dtype=np.int64)
        uses = csr_matrix((np.ones(len(tokens), dtype=np.float32), tokens, starts), shape=(len(words), len(self._vectors)))
        summed = np.asarray(uses @ self._vectors, dtype=np.float32)
        rarest = np.array([max(ids, default=0) for ids in encoded])
        return _as_long_as(summed, np.log(np.maximum(rarest - _FIRST_WORD + 1, 1)).astype(np.float32))


def _as_long_as(rows: "NDArray[np.float32]", lengths: "NDArray[np.float32] | np.float32") -> "NDArray[np.float32]":
    """Return these rows, which are changed, as long as said; those of zeros stay. Tens of thousands of them are not copied."""
    import numpy as np  # noqa: PLC0415

    rows *= (lengths / np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), 1e-9))[:, None]
    return rows


def _load(threads: int) -> StaticEncoder:
    weights, tokenizer = checked(), tokenizer_path()
    try:
        import numpy as np  # noqa: PLC0415
        from safetensors.numpy import load_file  # noqa: PLC0415
        from tokenizers import Tokenizer  # noqa: PLC0415
    except ImportError as error:
        raise ModelUnavailable(f"{NAME} cannot run: {error}; install what it needs: pip install 'federation[embedding]'") from error
    return StaticEncoder(weights, load_file(weights.path)["embedding.weight"].astype(np.float32), Tokenizer.from_file(str(tokenizer)))


_model = OncePerProcess(NAME, _load)


def load(*, threads: int = 1) -> StaticEncoder:
    """Return the vectors of this process, loading them at the first call (0.1 s).

    Raises ModelUnavailable if they or what reads them are missing, WeightsChanged.
    """
    return _model.get(threads)
