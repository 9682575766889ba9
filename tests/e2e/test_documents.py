"""The tutorial and the README, as a reader follows them: each command that they show is run, or said why not."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from federation.local import children

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
# What the README shows and no test runs as it stands, and where it is shown to work.
ELSEWHERE = {
    "make demo": "tests/e2e/test_demo.py runs what it runs after the installation",
    "make test": "runs this",
    "make docs": "CI has no use for the pages; tests/unit/test_docs.py looks at them",
    ". .venv/bin/activate": "the tests run in that environment, or in one like it",
    "federation claim list": "tests/integration/cli/test_claim.py",
    "federation artifact list CONVERSATION": "tests/integration/cli/test_artifact.py",
    "federation hook install": "tests/integration/cli/test_hook.py, in a repository of git",
    "docker compose -f compose/compose.yaml up --build": "wants a container engine; tests/unit/test_compose.py, tests/integration/compose",
}


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
        stopped = federation(environment, "down")
        federation(environment, "down", "--purge")
    assert stopped == "Stopped."
    assert not data_dir.exists()


def federation(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "federation.cli.main", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_example_of_the_tutorial_runs_as_it_stands(surroundings: dict[str, str]) -> None:
    nora = federation(surroundings, "agent", "add", "nora", "--role", "lead")
    tom = federation(surroundings, "agent", "add", "tom", "--role", "developer")
    told = json.loads(federation(surroundings, "status", "--json"))
    example = [sys.executable, str(ROOT / "docs" / "examples" / "first_conversation.py"), told["mcp_url"]]
    done = subprocess.run(example, env=surroundings | {"NORA": nora, "TOM": tom}, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == ["nora: Tom, can you look at the cache?", "claimed", "tom {'finding': 'entries never expire'}", "on baby"]
    assert lines[4].startswith("baby {")
    assert "SmolLM2-135M-Instruct" in lines[-1]
    with psycopg.connect(told["database_auditor_url"]) as connection:
        query = "select sender, recipient from messages where conversation_id = 'leak-hunt' order by created_at limit 1"
        assert connection.execute(query).fetchall() == [("nora", "tom")]


def shown() -> list[str]:
    """Return the commands that the README shows, in lines of code and in the middle of a text."""
    lines = [line.strip().partition("  #")[0].rstrip() for line in re.findall(r"^ {4}\S.*", README, re.M)]
    spans = re.findall(r"`((?:federation|celery|make|docker|compose/)[^`]* [^`]+|compose/[^`]+\.sh)`", README)
    return [*lines, *spans]


def test_each_command_of_the_readme_is_run_or_said_why_not() -> None:
    assert len(shown()) >= 14
    assert set(shown()) == {*ELSEWHERE, *IN_A_SHELL, *OTHERWISE}


# As they stand, in a shell, against a federation that runs.
IN_A_SHELL = (
    "federation up --detach",
    "federation agent add carol --role lead | federation agent config carol --client claude-code --token -",
    "federation up",
    "federation status",
    "federation doctor",
    "federation agent list",
    "celery -A federation inspect active",
)


def test_commands_of_the_readme_run_as_they_stand(surroundings: dict[str, str], tmp_path: Path) -> None:
    told = {}
    for command in IN_A_SHELL:
        words = ["bash", "-euo", "pipefail", "-c", command]
        deadline = time.monotonic() + 120
        while True:
            done = subprocess.run(words, cwd=tmp_path, env=shell(surroundings), capture_output=True, text=True, check=False, timeout=400)
            # Celery gives the nodes a second to answer, and one may stand still for that.
            if done.returncode == 0 or not command.startswith("celery") or time.monotonic() > deadline:
                break
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        told[command] = done.stdout
    assert "running already" in told["federation up --detach"]
    configuration = json.loads(told[IN_A_SHELL[1]])["mcpServers"]["federation"]
    address = json.loads(federation(surroundings, "status", "--json"))["mcp_url"]
    assert configuration["url"] == address
    assert re.fullmatch(r"Bearer fed_\S+", configuration["headers"]["Authorization"])
    # The address for any other client is the one that a federation has where its ports are free.
    assert "http://127.0.0.1:8765/mcp" in README
    assert "carol" in told["federation agent list"]
    assert "nodes online" in told["celery -A federation inspect active"]


def shell(surroundings: dict[str, str]) -> dict[str, str]:
    return surroundings | {"PATH": f"{BIN}:{surroundings['PATH']}"}


# With what a reader puts in, or with an end that a test of its own looks at.
OTHERWISE = (
    "celery -A federation worker -Q <node>",
    "compose/make-secrets.sh",
    "federation down",
    "federation down --purge",
    "federation node add <node>",
)


def test_worker_of_a_readers_node_announces_it(surroundings: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mynode.toml").write_text('role = "developer"\n')
    environment = shell(surroundings) | {"FEDERATION_WORKERS_DIR": str(tmp_path)}
    command = OTHERWISE[0].replace("<node>", "mynode").split()
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:

        def is_announced() -> bool:
            return "mynode" in [node["name"] for node in json.loads(federation(surroundings, "status", "--json"))["nodes"] if node["alive"]]

        assert children.wait_until(is_announced, 120, every_s=0.5), (tmp_path / "log").read_text()
    finally:
        children.stop(worker, signal.SIGTERM, grace_s=30)


def test_passwords_for_containers_are_made(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "compose", tmp_path / "compose", ignore=shutil.ignore_patterns(".env"))
    subprocess.run([OTHERWISE[1]], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "compose" / ".env").stat().st_mode & 0o777 == 0o600
