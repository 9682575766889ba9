"""The lock of the coordination patterns, as claims of the federation: `agent_lock.py URL RESOURCE`, with the agent's token in FEDERATION_TOKEN."""

# ruff: noqa: T201 - it shows what it gets
import asyncio
import os
import sys
from typing import Any

from fastmcp import Client


class AgentLock:
    """A lock on a resource: only if it is free, with a time to live, and given back by who has it alone."""

    def __init__(self, agent: Client[Any], resource_id: str) -> None:
        self.agent, self.resource_id = agent, resource_id
        self.fencing_token: int | None = None

    async def acquire(self, timeout: float = 30, wait_s: float = 0) -> bool:
        """Acquire it for `timeout` seconds, after waiting in line for `wait_s` at most."""
        claim = await self.agent.call_tool("federation_claim", {"resource": self.resource_id, "ttl_s": timeout, "wait_s": wait_s})
        self.fencing_token = claim.data.fencing_token
        return bool(claim.data.claimed)

    async def release(self) -> bool:
        """Release it if it is ours."""
        return bool((await self.agent.call_tool("federation_release", {"resource": self.resource_id})).data.released)


async def main(url: str, resource_id: str, token: str) -> None:
    async with Client(url, auth=token) as agent:
        lock = AgentLock(agent, resource_id)
        if await lock.acquire():
            try:
                print(f"changing {resource_id} with token {lock.fencing_token}")
            finally:
                await lock.release()
        else:
            print(f"another agent is working on {resource_id}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], os.environ["FEDERATION_TOKEN"]))
