"""The tutorial, as a reader follows it: start, two agents, the example, stop."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def surroundings(server_dir: Path) -> Iterator[dict[str, str]]:
    """The environment of a reader's shell, with a federation that runs in a folder of its own."""
    data_dir = server_dir / "tutorial"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_") or name == "FEDERATION_CACHE_DIR"}
    environment = kept | {"FEDERATION_DATA_DIR": str(data_dir)}
    try:
        federation(environment, "up", "--detach")
        yield environment
    finally:
        federation(environment, "down", "--purge", "--yes")
    assert not data_dir.exists()


def federation(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "federation.cli.main", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_example_of_the_tutorial_runs_as_it_stands(surroundings: dict[str, str]) -> None:
    nora = federation(surroundings, "agent", "add", "nora", "--role", "lead")
    tom = federation(surroundings, "agent", "add", "tom", "--role", "developer")
    told = json.loads(federation(surroundings, "status", "--json"))
    example = [sys.executable, str(ROOT / "docs" / "examples" / "first_conversation.py"), told["mcp_url"], nora, tom]
    done = subprocess.run(example, env=surroundings, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == ["nora: Tom, can you look at the cache?", "claimed", "tom {'finding': 'entries never expire'}", "on baby"]
    assert lines[4].startswith("baby {")
    assert "SmolLM2-135M-Instruct" in lines[-1]
    with psycopg.connect(told["database_auditor_url"]) as connection:
        query = "select sender, recipient from messages where conversation_id = 'leak-hunt' order by created_at limit 1"
        assert connection.execute(query).fetchall() == [("nora", "tom")]
