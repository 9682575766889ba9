"""The pre-commit hook of one who has nothing but a token and the front door's address."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from federation.services import resource_claims


@pytest.fixture
def check(house: Any, tmp_path: Path) -> Any:
    """Runs `federation hook check`, or what else is told, in a repository with a staged file."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")}
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "FEDERATION_DATA_DIR": str(tmp_path / "data"), "FEDERATION_MCP_URL": f"{house.url}/mcp"}
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "main.py").write_text("x = 1\n")
    for words in (("init", "-q"), ("add", "main.py")):
        subprocess.run(["git", *words], cwd=folder, env=kept | own, check=True)

    def run(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-P", "-m", "federation.cli.main", "hook", *(words or ("check",))]
        return subprocess.run(command, cwd=folder, env=kept | own | variables, capture_output=True, text=True, check=False)

    return run


def test_hook_asks_the_front_door_with_the_agents_token(house: Any, check: Any) -> None:
    with house.transactions.begin("bob") as session:
        for number in range(450):
            resource_claims.take(session, f"file:lib/{number}", ttl_s=600)
        taken = resource_claims.take(session, "file:main.py", ttl_s=600, description="tidying")
    untold = check(FEDERATION_TOKEN=house.tokens["bob"])
    assert (untold.returncode, "and this repository knows no token of it" in untold.stderr) == (1, True)
    assert check("token", "file:main.py", str(taken.fencing_token)).returncode == 0
    bobs = check(FEDERATION_TOKEN=house.tokens["bob"])
    assert (bobs.returncode, bobs.stderr) == (0, "")
    adas = check(FEDERATION_TOKEN=house.tokens["ada"])
    assert adas.returncode == 1
    assert "main.py: claimed by bob until" in adas.stderr
    unknown = check(FEDERATION_TOKEN="fed_nobody")
    assert (unknown.returncode, "does not take the token" in unknown.stderr) == (69, True)
    nothing = check()
    assert (nothing.returncode, "set the token of your agent" in nothing.stderr) == (69, True)
    away = check(FEDERATION_TOKEN=house.tokens["ada"], FEDERATION_MCP_URL="http://127.0.0.1:9/mcp")
    assert (away.returncode, "the front door at http://127.0.0.1:9/mcp does not answer" in away.stderr) == (69, True)
