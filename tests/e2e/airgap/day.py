"""A day of a federation in short, as one program: up, two agents who talk and delegate, a search and a model, down; says what it saw as JSON.

Refuses to judge: the test that starts it does.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

# An address for documentation (RFC 5737), which nobody has.
OUTSIDE = "203.0.113.1"


def federation(*words: str) -> str:
    """Run the command to its end, and return what it wrote."""
    done = subprocess.run([sys.executable, "-m", "federation.cli.main", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"federation {' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def unroutable() -> int:
    """Return how many packets and connections the kernel could send nowhere in this namespace, of whatever process."""
    head, values = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    newer = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines()) if Path("/proc/net/snmp6").exists() else {}
    return int(values[head.index("OutNoRoutes")]) + int(newer.get("Ip6OutNoRoutes", 0))


def sent_elsewhere() -> int:
    """Return the bytes that went out over anything but loopback."""
    lines = [line.split() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    return sum(int(fields[9]) for fields in lines if fields[0] != "lo:")


async def agents(url: str, tokens: dict[str, str], folder: str) -> dict[str, Any]:
    """Let two agents do what agents do."""
    told: dict[str, Any] = {}
    ada, bob = (Client(StreamableHttpTransport(url, auth=tokens[name])) for name in ("ada", "bob"))
    async with ada, bob:
        await ada.call_tool("federation_send", {"to": "bob", "content": "Is anybody out there?"})
        inbox = (await bob.call_tool("federation_inbox", {"wait_s": 60})).structured_content
        told["heard"] = [message["content"] for message in inbox["messages"]]
        await ada.call_tool("federation_delegate", {"description": "Look outside", "agent": "bob", "task_id": "look"})
        claim = (await bob.call_tool("federation_claim_task", {"task_id": "look", "description": "I look"})).structured_content
        done = {"task_id": "look", "fencing_token": claim["fencing_token"], "result": {"seen": "nothing"}}
        await bob.call_tool("federation_complete_task", done)
        told["result"] = (await ada.call_tool("federation_task_result", {"task_id": "look"})).structured_content["result"]
        run = (await ada.call_tool("federation_index", {"path": folder})).structured_content
        indexed = (await ada.call_tool("federation_task_result", {"task_id": run["run_id"], "wait_s": 120})).structured_content
        told["indexed"] = indexed["finished"]
        hits = (await ada.call_tool("federation_search", {"query": "how to open the window"})).structured_content
        told["found"] = [Path(hit["path"]).name for hit in hits["hits"]]
        asked = {"prompt": "What is the capital of France?", "max_tokens": 16, "wait_s": 120}
        told["said"] = (await bob.call_tool("federation_infer", asked)).structured_content["text"]
    return told


def main(folder: str) -> None:
    """Live through the day and tell of it on standard output."""
    told: dict[str, Any] = {"interfaces": [name for _, name in socket.if_nameindex()]}
    federation("up", "--detach", "--nodes", "aorus")
    try:
        tokens = {
            name: json.loads(federation("agent", "add", name, "--role", role, "--json"))["token"]
            for name, role in (("ada", "lead"), ("bob", "developer"))
        }
        url = json.loads(federation("status", "--json"))["mcp_url"]
        told |= asyncio.run(agents(url, tokens, folder))
    finally:
        federation("down")
    told |= {"unroutable": unroutable(), "sent_elsewhere": sent_elsewhere(), "on_purpose": OUTSIDE}
    # Whether an attempt would have been told.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        try:
            outside.connect((OUTSIDE, 53))
        except OSError:
            told["unroutable_after_one"] = unroutable()
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    os.chdir("/")
    main(sys.argv[1])
