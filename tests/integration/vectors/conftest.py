"""A table in a folder of its own, and rows made by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from federation.vectors.table import DIM, ChunkTable, Row

MakeRow = Callable[..., Row]


@pytest.fixture
def table(tmp_path: Path) -> ChunkTable:
    return ChunkTable(tmp_path / "vectors")


@pytest.fixture
def row() -> MakeRow:
    """Make a row whose vector points along one axis."""

    def make(key: str, text: str = "words", *, axis: int = 0, document: str = "d", collection: str = "c", path: str = "a.py") -> Row:
        vector = np.zeros(DIM, dtype=np.float32)
        vector[axis] = 1.0
        return Row(id=key, document_id=document, collection=collection, path=path, kind="function", text=text, vector=vector)

    return make
