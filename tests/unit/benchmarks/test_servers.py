"""Where the peers' programs come from, and what is said when they cannot be had."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine
from benchmarks.servers import installed
from benchmarks.workload_settings import write
from federation.errors import LocalServiceError
from federation.settings import settings


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(installed, "settings", lambda: settings().model_copy(update={"cache_dir": tmp_path}))
    return tmp_path


def test_unpacked_program_is_found_with_its_libraries(cache: Path) -> None:
    program = cache / "a-peer" / "usr" / "bin" / "a-peer-of-nobody"
    libraries = cache / "a-peer" / "usr" / "lib" / "x86_64-linux-gnu"
    for folder in (program.parent, libraries):
        folder.mkdir(parents=True)
    program.touch()
    assert installed.find("a-peer", "usr/bin/a-peer-of-*") == program
    assert installed.libraries("a-peer") == libraries


def test_what_the_system_has_is_not_fetched(cache: Path) -> None:
    assert installed.find("coreutils", "usr/bin/env") == Path("/usr/bin/env")
    assert installed.libraries("coreutils") is None
    assert list(cache.iterdir()) == []


def test_peer_that_cannot_be_fetched_is_an_error_that_tells_why(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalServiceError, match="apt-get"):
        installed.find("a-peer", "usr/bin/a-peer-of-nobody")
    assert list(cache.iterdir()) == []


def test_settings_of_a_worker_are_read_by_their_owner_alone(tmp_path: Path) -> None:
    write(tmp_path, broker_url="amqp://it's//", result_backend="rpc://", durable=False)
    [written] = tmp_path.iterdir()
    assert written.stat().st_mode & 0o077 == 0
    read: dict[str, Any] = {}
    exec(written.read_text(), read)
    assert (read["broker_url"], read["result_backend"]) == ("amqp://it's//", "rpc://")
    assert (read["broker_transport_options"], read["task_default_delivery_mode"]) == ({"confirm_publish": False}, "transient")


def test_machine_is_told_and_the_disk_is_left_as_it_was(tmp_path: Path) -> None:
    facts = machine.facts(tmp_path)
    assert facts["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert facts["file_system"] != "unknown"
    assert machine.commit_ms(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []
    assert machine.versions()["celery"].startswith("5.")
