"""An index in a folder of its own, and rows made by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from federation.vectors.index import VectorIndex
from federation.vectors.table import DIM, Row

MakeRow = Callable[..., Row]


@pytest.fixture
def index(tmp_path: Path) -> VectorIndex:
    return VectorIndex(tmp_path / "vectors")


@pytest.fixture
def row() -> MakeRow:
    """Make a row whose vector points along one axis; unless told, it is the only chunk of its document."""

    def make(key: str, text: str = "words", *, axis: int = 0, document: str | None = None, collection: str = "c", path: str = "a.py") -> Row:
        vector = np.zeros(DIM, dtype=np.float32)
        vector[axis] = 1.0
        return Row(id=key, document_id=document or f"of {key}", collection=collection, path=path, kind="function", text=text, vector=vector)

    return make
