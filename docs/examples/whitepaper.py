"""The whitepaper's calls of §4.1 and §4.2 as they stand there, made by three agents: `whitepaper.py URL`.

The tokens come from the environment, as TAICHI, BABY and AORUS: a command line can be read by everybody on the machine.
"""

# ruff: noqa: T201 - it shows what it gets
# fmt: off
import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastmcp import Client


def main(url: str, tokens: Mapping[str, str]) -> dict[str, Any]:
    """Make the calls; return what baby reads, and what everybody sees."""
    with asyncio.Runner() as runner:

        def call(who: str, tool: str, **given: Any) -> Any:
            async def made() -> Any:
                async with Client(url, auth=tokens[who]) as client:
                    return (await client.call_tool(tool, given)).structured_content

            return runner.run(made())

        def seat(who: str, tool: str) -> Callable[..., Any]:
            return partial(call, who, tool)

        federation_send, federation_update_state = seat("taichi", "federation_send"), seat("taichi", "federation_update_state")
        federation_pulse = seat("baby", "federation_pulse")

        # 4.1 direct messaging
        federation_send(
            content="Please review auth-module.py for security issues",
            to="baby",  # Target specific agent
            message_type="task"
        )
        # end of 4.1
        inbox = call("baby", "federation_inbox")

        # 4.2 mind-speak
        federation_update_state(
            summary="Refactoring auth module",
            action="EXECUTING",
            thinking="Considering OAuth2 vs JWT tradeoffs",
            wondering="Should we support refresh tokens?",
            offering="Can help with crypto review when done"
        )
        # end of 4.2
        call("baby", "federation_update_state", summary="Waiting for work", action="IDLE", offering="Data analysis")
        call("aorus", "federation_update_state", summary="Waiting for a review", action="WAITING", offering="Systems optimization")
        pulse = federation_pulse(form="table")
        seen = federation_pulse()

    for message in inbox["messages"]:
        print(f"{message['sender']} ({message['message_type']}): {message['content']}")
    print(pulse["table"])
    return {"inbox": inbox, "table": pulse["table"], "pulse": seen}


if __name__ == "__main__":
    main(sys.argv[1], {name: os.environ[name.upper()] for name in ("taichi", "baby", "aorus")})
