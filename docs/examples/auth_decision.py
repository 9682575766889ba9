"""Three agents decide which auth approach to take, with the calls of the whitepaper: `auth_decision.py URL`.

The tokens come from the environment, as ADA, BOB and DAN: a command line can be read by everybody on the machine.
"""

# ruff: noqa: T201 - it shows what it gets
import asyncio
import os
import sys

from fastmcp import Client


async def main(url: str, ada_token: str, bob_token: str, dan_token: str) -> None:
    async with Client(url, auth=ada_token) as ada, Client(url, auth=bob_token) as bob, Client(url, auth=dan_token) as dan:
        # ask
        asked = await ada.call_tool(
            "federation_consensus_request",
            {
                "question": "Which auth approach?",
                "options": ["OAuth2", "JWT", "Custom"],
                "mechanism": "poll",
                "consensus_id": "auth-decision",
                "voters": ["ada", "bob", "dan"],
            },
        )
        # vote
        for voter, response in ((ada, "OAuth2"), (bob, "JWT"), (dan, "OAuth2")):
            await voter.call_tool(
                "federation_consensus_acknowledge", {"consensus_id": "auth-decision", "options_hash": asked.structured_content["options_hash"]}
            )
            await voter.call_tool("federation_consensus_respond", {"consensus_id": "auth-decision", "response": response})
        # look
        found = (await dan.call_tool("federation_consensus_results", {"consensus_id": "auth-decision"})).structured_content
        print({name: found[name] for name in ("winner", "votes")})
        # end


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], os.environ["ADA"], os.environ["BOB"], os.environ["DAN"]))
