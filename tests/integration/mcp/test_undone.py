"""What cannot be done now: told at once where no node can do it, and recorded where the broker is away."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from federation.services import nodes
from federation.services.nodes import Announcement
from federation.transaction import Transactions
from tests.integration.mcp.publishing import publishing

pytestmark = pytest.mark.anyio
A_NODE = Announcement(
    name="lead",
    role="lead",
    tags=(),
    engines=("llamacpp",),
    models=(),
    gpus=(),
    missing=(),
    concurrency=1,
    hostname="here",
    pid=1,
    incarnation=uuid.uuid4(),
    simulated=True,
)


@pytest.mark.parametrize(
    ("tool", "arguments", "missing"),
    [
        ("federation_infer", {"prompt": "?", "wait_s": 600}, "no live node has engine=chat"),
        ("federation_infer", {"prompt": "?", "model": "SmolLM2-135M-Instruct", "wait_s": 600}, "model=SmolLM2-135M-Instruct"),
        ("federation_search", {"query": "?"}, "tag=frag"),
        ("federation_index", {"path": "/srv/code", "wait_s": 600}, "tag=frag"),
        ("federation_summarize", {"conversation_id": "commons", "wait_s": 600}, "engine=minilm"),
        ("federation_delegate", {"description": "d", "role": "lead"}, "role=lead"),
    ],
)
async def test_what_no_live_node_can_do_is_told_at_once_with_a_handle(alone: Any, tool: str, arguments: dict[str, Any], missing: str) -> None:
    async with alone.client("ada") as ada:
        await ada.call_tool("federation_send", {"content": "What is there to summarise"})
        # Who waits its whole time waits longer than this.
        async with asyncio.timeout(120):
            told = (await ada.call_tool(tool, arguments)).structured_content
        assert told["state"] in {"unplaced", "scan unplaced"}
        assert missing in told["waiting_for"]
        handle = told.get("execution_id") or told["run_id"]
        status = (await ada.call_tool("federation_task_status", {"task_id": handle})).structured_content
    assert (status["state"], status["waiting_for"]) == (told["state"], told["waiting_for"])


async def test_dead_broker_is_told_and_the_task_recorded(
    postgres: Any, database: str, transactions: Transactions, tokens: dict[str, str], serve: Any, tmp_path: Path
) -> None:
    database_url, service_url = (postgres.as_role(role, database) for role in ("federation_app", "federation_service"))
    with transactions.begin("test:hand") as session:
        nodes.announce(session, A_NODE)
    with serve(publishing(database_url, service_url, "activemq://nobody:secret@127.0.0.1:9/", tmp_path), database_url, tokens) as house:
        async with house.client("ada") as ada:
            task = (await ada.call_tool("federation_delegate", {"description": "d", "role": "lead"})).data
            assert (task.state, task.note) == ("recorded", "recorded; ActiveMQ has not taken it yet, and it will be sent as soon as it does")
            assert (await ada.call_tool("federation_task_status", {"task_id": str(task.task_id)})).data.state == "recorded"
