"""What was deleted leaves the files of LanceDB once former versions are old enough, of an empty table too."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from federation.vectors import table
from federation.vectors.table import Row, Table


@pytest.mark.parametrize("others", [0, 9])
def test_a_deleted_vector_leaves_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int) -> None:
    monkeypatch.setattr(table, "KEEP_VERSIONS", timedelta(0))
    stored = Table(tmp_path, "memories", has_words=False)
    vector, other = (np.full(384, value, dtype=np.float32) for value in (0.123456, 0.654321))

    def in_files() -> bool:
        return any(vector.tobytes() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    stored.upsert([Row("forgotten", "forgotten", "nobody:ada", "", "memory", "", vector)])
    if others:
        stored.upsert([Row(f"kept{number}", f"kept{number}", "nobody:ada", "", "memory", "", other) for number in range(others)])
    assert in_files()
    stored.delete(["forgotten"])
    for _ in range(2):
        stored.optimize()
    assert not in_files()
    assert stored.count() == others
