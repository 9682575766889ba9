"""What `federation index` says of a run that is searchable and not finished."""

from types import SimpleNamespace
from typing import Any

import pytest

from federation.cli import index


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (1, "2 batches of it are embedded in the background"),
        (3, "Its vectors are written in the background"),
    ],
)
def test_what_goes_on_in_the_background_is_told(capsys: pytest.CaptureFixture[str], done: int, said: str) -> None:
    counts = {"files": 3, "changed_files": 1, "deleted_files": 0, "chunks": 3, "batches": 3, "batches_done": done}
    found: Any = SimpleNamespace(path="/tree", finished=False, **counts)
    index._tell(found, [], listed=False, as_json=False)
    assert said in capsys.readouterr().out.replace("\n", " ")
