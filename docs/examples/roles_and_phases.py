"""The whitepaper's calls of §4.4 as they stand there, and a conversation that goes through its phases: `roles_and_phases.py URL`.

The tokens come from the environment, as TAICHI, BABY and AORUS: a command line can be read by everybody on the machine.
"""

# ruff: noqa: T201 - it shows what it gets
# fmt: off
import asyncio
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastmcp import Client
from fastmcp.exceptions import ToolError


def main(url: str, tokens: Mapping[str, str]) -> dict[str, Any]:
    """Make the calls; return what came of them."""
    with asyncio.Runner() as runner:

        def call(who: str, tool: str, **given: Any) -> Any:
            async def made() -> Any:
                async with Client(url, auth=tokens[who]) as client:
                    return (await client.call_tool(tool, given)).structured_content

            return runner.run(made())

        federation_assign_role = partial(call, "taichi", "federation_assign_role")
        federation_claim_task = partial(call, "baby", "federation_claim_task")

        # 4.4 task delegation
        assigned = federation_assign_role(
            conversation_id="project-123",
            agent="baby",
            role="analyst",
            subtask="Profile memory allocation in auth module"
        )
        # end of the designation
        inbox = call("baby", "federation_inbox")["messages"]

        # A name makes a task easy to speak of; the Lead may give one.
        call("taichi", "federation_assign_role", conversation_id="project-123", agent="baby", role="analyst",
             subtask="Profile memory with valgrind", task_id="memory-profile")

        # 4.4 the claim
        claim = federation_claim_task(
            task_id="memory-profile",
            description="Running valgrind analysis"
        )
        # end of 4.4
        call("baby", "federation_complete_task", task_id="memory-profile", fencing_token=claim["fencing_token"], result={"leaks": 1})
        first = assigned["task_id"]
        phase = partial(call, "taichi", "federation_phase", conversation_id="project-123")

        # phases
        seen = [phase(phase="propose", reason="There is a leak")["phase"]]
        call("taichi", "federation_send", content="Come in", to="aorus", conversation_id="project-123")
        call("aorus", "federation_delegate", description="Free the buffer in close()", task_type="remediate", task_id="fix",
             conversation_id="project-123", requires_approval=True)
        try:
            call("taichi", "federation_approve", task_id="fix", decision="approve")
        except ToolError as error:
            refused = str(error)  # decisions rest until all have spoken
        seen.append(phase(phase="discuss")["phase"])
        for who in ("aorus", "baby"):
            call(who, "federation_send", content="close() is the place", conversation_id="project-123")
        seen.append(phase(phase="decide")["phase"])
        call("taichi", "federation_approve", task_id="fix", decision="approve", reason="as discussed")
        seen.append(phase(phase="execute")["phase"])
        # end of phases
        for task in ("fix", first):
            call("taichi", "federation_cancel_task", task_id=task, reason="an example does no work")
        seen.append(phase(phase="review")["phase"])

    print(f"{assigned['agent']} is {assigned['role']} for {first}")
    print(" → ".join(seen))
    return {"assigned": assigned, "inbox": inbox, "claim": claim, "phases": seen, "refused": refused}


if __name__ == "__main__":
    main(sys.argv[1], {name: os.environ[name.upper()] for name in ("taichi", "baby", "aorus")})
