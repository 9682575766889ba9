"""An index in a folder of its own, and chunks made by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from federation.vectors.index import STATIC_DIM, Key, VectorIndex
from federation.vectors.table import DIM

Put = Callable[..., None]


def along(axis: int, dim: int = DIM) -> NDArray[np.float32]:
    vector = np.zeros(dim, dtype=np.float32)
    vector[axis] = 1.0
    return vector


@pytest.fixture
def index(tmp_path: Path) -> VectorIndex:
    return VectorIndex(tmp_path / "vectors")


@pytest.fixture
def put(index: VectorIndex) -> Put:
    """Put a chunk whose vectors point along one axis into the index, with all of its document; `meaning` False: it is not embedded yet."""
    documents: dict[str, list[tuple[Key, str, int]]] = {}

    def put(
        key: str,
        text: str = "words",
        *,
        axis: int = 0,
        document: str | None = None,
        collection: str = "c",
        path: str = "a.py",
        kind: str = "function",
        meaning: bool = True,
    ) -> None:
        made = Key(key, document or f"of {key}", collection, path, kind)
        chunks = documents.setdefault(made.document_id, [])
        chunks[:] = [each for each in chunks if each[0].id != key] + [(made, text, axis)]
        keys, texts, axes = zip(*chunks, strict=True)
        index.put_words(keys, texts, np.stack([along(each, STATIC_DIM) for each in axes]))
        if meaning:
            index.put_meanings([made], [along(axis).tobytes()])

    return put
