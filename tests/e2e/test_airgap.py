"""The federation without a network: it works, and nothing of it even tries to reach anything but this machine."""

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "airgap"
ROOT = Path(__file__).parents[2]
NOT_HERE = 77
# What of a federation is a Python process that lives.
PARTS = ("worker", "beat", "flower", "serve", "supervise")


@pytest.fixture(scope="module")
def day() -> Iterator[tuple[dict[str, Any], list[list[Any]]]]:
    """What a day in a namespace with loopback alone came to, and what its Python processes wrote down."""
    # Not one of pytest's folders: root's PostgreSQL runs as nobody, who cannot enter those.
    folder = Path(tempfile.mkdtemp(prefix="federation-airgap-"))
    folder.chmod(0o711)
    witness = folder / "witness.jsonl"
    (folder / "src").mkdir()
    (folder / "src" / "window.py").write_text('def open_window() -> None:\n    """Open the window and let the air in."""\n')
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_") or name == "FEDERATION_CACHE_DIR"}
    ours = {
        "FEDERATION_DATA_DIR": str(folder / "data"),
        "AIRGAP_WITNESS": str(witness),
        "PYTHONPATH": f"{HERE / 'witness'}:{ROOT}",
    }
    words = [sys.executable, HERE / "namespace.py", sys.executable, HERE / "day.py", folder / "src"]
    try:
        done = subprocess.run(words, env=clean | ours, capture_output=True, text=True, check=False, timeout=280)
        if done.returncode == NOT_HERE:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stdout + done.stderr
        yield json.loads(done.stdout), [json.loads(line) for line in witness.read_text().splitlines()]
    finally:
        subprocess.run([sys.executable, "-m", "federation.cli.main", "down", "--purge"], env=clean | ours, check=False, timeout=120)
        shutil.rmtree(folder)


def test_agents_talk_delegate_search_and_ask_a_model_without_a_network(day: tuple[dict[str, Any], list[list[Any]]]) -> None:
    told, _ = day
    assert told["interfaces"] == ["lo"]
    assert told["heard"] == ["Is anybody out there?"]
    assert told["result"] == {"seen": "nothing"}
    assert told["indexed"]
    assert told["found"] == ["window.py"]
    assert "Paris" in told["said"]


def test_nothing_tries_to_reach_another_machine(day: tuple[dict[str, Any], list[list[Any]]]) -> None:
    told, written = day
    started = [" ".join(words) for _, kind, words in written if kind == "start"]
    assert [part for part in PARTS if not any(f" {part}" in words for words in started)] == []
    reached = {address[0] for _, kind, address in written if kind != "start"}
    elsewhere = {address for address in reached if address != "localhost" and not ipaddress.ip_address(address).is_loopback}
    assert reached - elsewhere
    # The one attempt that was made on purpose, at the end: both would have told of others.
    assert elsewhere == {told["on_purpose"]}
    # The kernel counts for Java, PostgreSQL and llama.cpp too.
    assert (told["unroutable"], told["sent_elsewhere"]) == (0, 0)
    assert told["unroutable_after_one"] == 1
