"""How long news takes to whoever waits for it, through the front door: each comes, and the figures are told; `make propagation` takes more."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.latency import figures

pytestmark = pytest.mark.anyio

TIMES = int(os.environ.get("PROPAGATION_TIMES", "20"))
# A file for the figures as JSON.
KEPT = "PROPAGATION_JSON"


async def test_news_reaches_who_waits(house: Any, tell: Callable[[str], None]) -> None:
    async with house.client("ada") as ada, house.client("bob") as bob:
        states, sent = [], []
        cursor = (await bob.call_tool("federation_pulse", {"form": "table"})).data.cursor
        inbox = (await bob.call_tool("federation_inbox")).data.cursor
        for number in range(TIMES):
            waiting = asyncio.create_task(bob.call_tool("federation_pulse", {"after": cursor, "wait_s": 120, "form": "table"}))
            await house.heard("pulse")
            began = time.perf_counter()
            updating = asyncio.create_task(ada.call_tool("federation_update_state", {"summary": f"step {number}"}))
            seen = (await waiting).data
            states.append(1000 * (time.perf_counter() - began))
            await updating
            assert f"| step {number} |" in seen.table
            cursor = seen.cursor

            waiting = asyncio.create_task(bob.call_tool("federation_inbox", {"after": inbox, "wait_s": 120}))
            await house.heard("inbox:bob")
            began = time.perf_counter()
            sending = asyncio.create_task(ada.call_tool("federation_send", {"content": f"word {number}", "to": "bob"}))
            read = (await waiting).data
            sent.append(1000 * (time.perf_counter() - began))
            await sending
            assert [message.content for message in read.messages] == [f"word {number}"]
            inbox = read.cursor
    found = {"state update to a waiting pulse": figures(states), "send to a waiting inbox": figures(sent)}
    for what, took in found.items():
        tell(f"from {what}: p50 {took['p50_ms']:.1f} ms, p99 {took['p99_ms']:.1f} ms")
    if KEPT in os.environ:
        Path(os.environ[KEPT]).write_text(json.dumps({"times": TIMES, **found}, indent=2))
