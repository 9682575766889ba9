"""What node files declare, where some of them cannot be read."""

from pathlib import Path

import pytest

from federation.placement import declared as module
from federation.placement import node_file
from federation.placement.declared import declared
from federation.settings import Settings


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(node_file, "settings", lambda: Settings(workers_dir=tmp_path))
    return tmp_path


def test_a_file_that_cannot_be_read_is_logged_and_hides_no_other(workers: Path, caplog: pytest.LogCaptureFixture) -> None:
    (workers / "good.toml").write_text('role = "lead"\nmodels = ["m"]')
    (workers / "odd.toml").write_text("role = ")
    assert [(node.name, node.models) for node in declared()] == [("good", ("m",))]
    assert "odd.toml: is not TOML" in caplog.text


def test_without_the_folder_nothing_is_declared(workers: Path, caplog: pytest.LogCaptureFixture) -> None:
    workers.rmdir()
    assert declared() == []
    assert "FEDERATION_WORKERS_DIR" in caplog.text
    assert module.logger.name in {record.name for record in caplog.records}
