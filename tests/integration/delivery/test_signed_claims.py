"""Claims that workers decide, signed by agents whose keys stay with them, over a front door."""

import asyncio
import json
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.local.ports import free_port
from federation.settings import Settings
from federation.stub.door import FrontDoor
from tests import forks
from tests.integration.world import World, until

RESOURCE = {"resource": "file:signed/main.py"}


@pytest.fixture
def url(calm: World) -> Iterator[str]:
    """The URL of a front door of this world."""
    port = free_port()
    given = calm.environment(FEDERATION_MCP_PORT=str(port), FEDERATION_MCP_PROCESSES="1", FEDERATION_BROKER_URL=calm.broker.url_of("door"))
    with (calm.folder / "door.log").open("wb") as log:
        door = forks.start("federation.cli.main", "serve", cwd=calm.folder, env=given, stdout=log)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    try:
        until(answers, (calm.folder / "door.log").read_text)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        door.kill()
        door.wait()


def test_a_claim_that_was_waited_for_is_signed_when_it_is_won(calm: World, url: str, tmp_path: Path) -> None:
    def agent(name: str) -> FrontDoor:
        added = forks.run(
            *("federation.cli.main", "agent", "add", name, "--role", "developer", "--json"), cwd=tmp_path, env=calm.environment(), timeout_s=120
        )
        assert added.returncode == 0, added.stderr
        return FrontDoor(url, json.loads(added.stdout)["token"], name, ssl.create_default_context(), Settings(data_dir=tmp_path / name))

    async def said(door: FrontDoor, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await door.call(tool, RESOURCE | arguments)
        assert not answer.is_error, answer.content
        return dict(answer.structured_content or {})

    async def calls() -> None:
        nia, oli = agent("nia"), agent("oli")
        assert (await said(nia, "federation_claim", ttl_s=600))["claimed"]
        waiting = asyncio.create_task(said(oli, "federation_claim", wait_s=300))
        query = "SELECT FROM claim_waiters WHERE holder = 'oli'"
        await asyncio.to_thread(until, lambda: calm.rows(query), "it stands in line")
        assert (await said(nia, "federation_release"))["released"]
        won = await asyncio.wait_for(waiting, 120)
        assert (won["claimed"], won["holder"]) == (True, "oli")

    asyncio.run(calls())
    stated = calm.rows("SELECT DISTINCT actor, action, mode FROM statements WHERE subject = 'claim:file:signed/main.py' ORDER BY actor, action")
    assert stated == [("nia", "claim.release", "signed"), ("nia", "claim.take", "signed"), ("oli", "claim.take", "signed")]
    assert calm.rows("SELECT holder FROM claims WHERE resource = 'file:signed/main.py'") == [("oli",)]
