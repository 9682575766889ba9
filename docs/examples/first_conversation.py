"""Two agents talk, one task is claimed and completed, another is done by a node: `first_conversation.py URL`.

The tokens come from the environment, as NORA and TOM: a command line can be read by everybody on the machine.
"""

# ruff: noqa: T201 - it shows what it gets
import asyncio
import os
import sys

from fastmcp import Client


async def main(url: str, nora_token: str, tom_token: str) -> None:
    async with Client(url, auth=nora_token) as nora, Client(url, auth=tom_token) as tom:
        # talk
        await nora.call_tool("federation_update_state", {"summary": "looking for the memory leak", "wondering": "who knows the cache?"})
        await nora.call_tool("federation_send", {"content": "Tom, can you look at the cache?", "to": "tom", "conversation_id": "leak-hunt"})
        inbox = await tom.call_tool("federation_inbox", {"wait_s": 10})
        for message in inbox.data.messages:
            print(f"{message.sender}: {message.content}")
        await tom.call_tool("federation_inbox", {"after": inbox.data.cursor})
        # end of talk

        # an agent's task
        task = await nora.call_tool(
            "federation_delegate",
            {"description": "Profile the cache", "role": "developer", "executor": "agent", "conversation_id": "leak-hunt"},
        )
        claim = await tom.call_tool("federation_claim_task", {"task_id": str(task.data.task_id), "description": "profiling now"})
        print("claimed" if claim.data.claimed else f"held by {claim.data.holder}")
        await tom.call_tool(
            "federation_complete_task",
            {"task_id": str(task.data.task_id), "fencing_token": claim.data.fencing_token, "result": {"finding": "entries never expire"}},
        )
        outcome = await nora.call_tool("federation_task_result", {"task_id": str(task.data.task_id)})
        print(outcome.data.done_by, outcome.data.result)
        # end of an agent's task

        # a node's task
        report = await nora.call_tool(
            "federation_delegate",
            {"description": "What was said so far", "task_type": "report", "role": "analyst", "conversation_id": "leak-hunt"},
        )
        print(f"on {report.data.node}" if report.data.node else f"waits: {report.data.waiting_for}")
        answer = await nora.call_tool("federation_task_result", {"task_id": str(report.data.task_id), "wait_s": 120})
        print(answer.data.done_by, answer.data.result)
        # end of a node's task

        # a model
        said = await nora.call_tool("federation_infer", {"prompt": "What do bees make?", "max_tokens": 32, "wait_s": 120})
        print(said.data.text, said.data.node, said.data.model, said.data.model_digest)
        # end of a model


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], os.environ["NORA"], os.environ["TOM"]))
