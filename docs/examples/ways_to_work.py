"""Four ways in which three agents work together, each for what it is good for: `ways_to_work.py bus|star|ring|tree URL`.

The tokens come from the environment, as ADA (a lead), BOB and DAN: a command line can be read by everybody on the machine.
"""

# ruff: noqa: T201 - it shows what it gets
import asyncio
import os
import sys
from typing import Any

from fastmcp import Client


class Agent:
    """An agent, with a connection of its own."""

    def __init__(self, name: str, client: Client[Any]) -> None:
        self.name, self.client = name, client

    async def __call__(self, tool: str, **given: Any) -> Any:
        """Call a tool and return its answer."""
        return (await self.client.call_tool(tool, given)).structured_content

    async def hears(self, conversation: str) -> Any:
        """Wait for a message in a conversation, and return it."""
        after: dict[str, int] = {}
        while True:
            inbox = await self("federation_inbox", wait_s=60, **after)
            after = {"after": inbox["cursor"]}
            for message in inbox["messages"]:
                if message["conversation_id"] == conversation:
                    return message


async def bus(ada: Agent, bob: Agent, dan: Agent) -> None:
    # bus: what each puts there, each can look up, also who comes later
    for agent in (bob, dan):
        await ada("federation_send", to=agent.name, conversation_id="release-7", content="Keep here what you learn of the release")

    for agent, learnt in ((bob, "Deploys need the VPN"), (dan, "The migration takes ten minutes"), (ada, "We ship on Friday")):
        await agent("federation_remember", content=learnt, visibility="members", conversation_id="release-7", about=["release-7"])

    known = await bob("federation_recall", about=["release-7"])
    for memory in reversed(known["memories"]):
        print(f"{memory['by']}: {memory['content']}")
    # end of bus


async def star(ada: Agent, bob: Agent, dan: Agent) -> None:
    # star: one hands out the parts, and each reports to that one
    await ada("federation_delegate", description="Why is the build slow?", agent="ada", task_id="slow-build", conversation_id="build")
    for agent, part in ((bob, "Profile the compiler"), (dan, "Profile the tests")):
        await ada("federation_delegate", description=part, agent=agent.name, parent="slow-build", conversation_id="build", task_id=f"of-{agent.name}")

    async def works(agent: Agent, found: str) -> None:
        task = (await agent.hears("build"))["data"]["task_id"]
        claim = await agent("federation_claim_task", task_id=task)
        await agent("federation_complete_task", task_id=task, fencing_token=claim["fencing_token"], result={"found": found})

    await asyncio.gather(works(bob, "one file takes half of it"), works(dan, "nothing to be had there"))

    reports = [await ada("federation_task_result", task_id=f"of-{name}", conversation_id="build", wait_s=60) for name in ("bob", "dan")]
    claim = await ada("federation_claim_task", task_id="slow-build")
    whole = {report["done_by"]: report["result"]["found"] for report in reports}
    await ada("federation_complete_task", task_id="slow-build", fencing_token=claim["fencing_token"], result=whole)
    print(whole)
    # end of star


async def ring(ada: Agent, bob: Agent, dan: Agent) -> None:
    # ring: each adds something to what it got, and passes it on; it ends where it began
    async def passes_on(agent: Agent, to: Agent, adds: str) -> None:
        got = await agent.hears("changelog")
        await agent("federation_send", to=to.name, conversation_id="changelog", content=f"{got['content']} > {adds}", reply_to=got["message_id"])

    going_round = asyncio.gather(passes_on(bob, dan, "shortened"), passes_on(dan, ada, "translated"))
    await ada("federation_send", to="bob", conversation_id="changelog", content="written")
    await going_round
    print((await ada.hears("changelog"))["content"])
    # end of ring


async def tree(ada: Agent, bob: Agent, dan: Agent) -> None:
    # tree: what is said is said of something, and in the end they vote
    async def says(agent: Agent, content: str, of: str | None = None) -> str:
        about = {} if of is None else {"reply_to": of}
        return (await agent("federation_send", content=content, conversation_id="debate", **about))["message_id"]

    for agent in (bob, dan):
        await ada("federation_send", to=agent.name, conversation_id="debate", content="Come in")
    question = await says(ada, "How does the search get faster?")
    cache = await says(bob, "cache: a cache in front", question)
    index = await says(dan, "index: an index on the name", question)
    await says(dan, "it is stale after each write", cache)
    await says(bob, "it costs 2 GB", index)
    await says(dan, "we have them", await says(ada, "where?", index))

    said = (await ada("federation_history", conversation_id="debate", thread=question))["messages"]
    below: dict[str | None, list[Any]] = {}
    for message in said:
        below.setdefault(message["reply_to"], []).append(message)

    def show(message: Any, depth: int) -> None:
        print("  " * depth + f"{message['sender']}: {message['content']}")
        for reply in below.get(message["message_id"], []):
            show(reply, depth + 1)

    show(said[0], 0)

    names = ["ada", "bob", "dan"]
    asked = await ada("federation_consensus_request", question="Which?", options=["cache", "index"], mechanism="majority", voters=names)
    vote = {"consensus_id": asked["consensus_id"]}
    for agent, choice in ((bob, "cache"), (dan, "index"), (ada, "index")):
        await agent("federation_consensus_acknowledge", **vote, options_hash=asked["options_hash"])
        await agent("federation_consensus_respond", **vote, response=choice)
    print("decided:", (await bob("federation_consensus_results", **vote))["winner"])
    # end of tree


async def main(way: str, url: str, tokens: dict[str, str]) -> None:
    """Work together in one of the four ways."""
    async with Client(url, auth=tokens["ada"]) as ada, Client(url, auth=tokens["bob"]) as bob, Client(url, auth=tokens["dan"]) as dan:
        await WAYS[way](Agent("ada", ada), Agent("bob", bob), Agent("dan", dan))


WAYS = {"bus": bus, "star": star, "ring": ring, "tree": tree}

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], {name: os.environ[name.upper()] for name in ("ada", "bob", "dan")}))
