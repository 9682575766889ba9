"""The list of tools: one line each, with what a client may know of its effects before it calls."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Literal

from fastmcp.tools import Tool
from fastmcp.utilities.json_schema import dereference_refs
from mcp_types import ToolAnnotations

from federation.mcp.answers import offered
from federation.mcp.tools.approvals import federation_approve
from federation.mcp.tools.artifacts import federation_artifact_get, federation_artifact_put
from federation.mcp.tools.assignments import federation_assign_role
from federation.mcp.tools.claims import federation_claim_task, federation_complete_task, federation_release_task
from federation.mcp.tools.consensus import (
    federation_consensus_acknowledge,
    federation_consensus_request,
    federation_consensus_respond,
    federation_consensus_results,
)
from federation.mcp.tools.cop import federation_pulse, federation_update_state
from federation.mcp.tools.delegation import federation_delegate
from federation.mcp.tools.inference import federation_infer
from federation.mcp.tools.memories import federation_forget, federation_recall, federation_remember
from federation.mcp.tools.messages import federation_history, federation_inbox, federation_send
from federation.mcp.tools.phases import federation_phase
from federation.mcp.tools.requests import federation_ask, federation_ask_result
from federation.mcp.tools.resource_claims import federation_claim, federation_claims, federation_release
from federation.mcp.tools.retrieval import federation_index, federation_search
from federation.mcp.tools.summaries import federation_summarize
from federation.mcp.tools.swarm import (
    swarm_claim_task,
    swarm_complete_task,
    swarm_get_findings,
    swarm_join_session,
    swarm_post_finding,
    swarm_propose_action,
    swarm_vote,
)
from federation.mcp.tools.tasks import federation_cancel_task, federation_task_result, federation_task_status

# Nothing here reaches out of the federation, and nothing that was recorded is destroyed, but for what an agent forgets of its own.
READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, destructive_hint=False, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, idempotent_hint=False, destructive_hint=False, open_world_hint=False)
SETS = ToolAnnotations(read_only_hint=False, idempotent_hint=True, destructive_hint=False, open_world_hint=False)
ENDS = ToolAnnotations(read_only_hint=False, idempotent_hint=True, destructive_hint=True, open_world_hint=False)

TOOLS: tuple[tuple[Callable[..., Awaitable[Any]], str, ToolAnnotations], ...] = (
    (federation_send, "Send a message", ADDS),
    (federation_inbox, "Read the inbox", SETS),
    (federation_history, "Look back at a conversation", READS),
    (federation_ask, "Ask, and wait for the answer", ADDS),
    (federation_ask_result, "Read the answer to what you asked", SETS),
    (federation_update_state, "Tell what you are doing", SETS),
    (federation_pulse, "See what everybody is doing", READS),
    (federation_delegate, "Hand out work", ADDS),
    (federation_assign_role, "Designate who does what", ADDS),
    (federation_phase, "See or move a conversation's phase", SETS),
    (federation_approve, "Approve or reject a task", ENDS),
    (federation_consensus_request, "Put something to the vote", ADDS),
    (federation_consensus_acknowledge, "Acknowledge what is voted on", SETS),
    (federation_consensus_respond, "Vote", SETS),
    (federation_consensus_results, "How a vote stands", READS),
    (federation_claim_task, "Claim a task", SETS),
    (federation_release_task, "Give a task back", SETS),
    (federation_complete_task, "Complete a task", SETS),
    (federation_claim, "Claim a file or folder", SETS),
    (federation_release, "Give a claim back", SETS),
    (federation_claims, "See what is claimed", READS),
    (federation_cancel_task, "Cancel a task", ENDS),
    (federation_task_status, "Where a task stands", READS),
    (federation_task_result, "What came of a task", READS),
    (federation_index, "Make files searchable", SETS),
    (federation_search, "Search files", READS),
    (federation_remember, "Remember something", SETS),
    (federation_recall, "Recall what was remembered", READS),
    (federation_forget, "Forget something", ENDS),
    (federation_infer, "Ask a model", ADDS),
    (federation_summarize, "Summarise a conversation", SETS),
    (federation_artifact_put, "Share a file", SETS),
    (federation_artifact_get, "Get shared files", READS),
    (swarm_join_session, "Look into something together", SETS),
    (swarm_post_finding, "Share a finding", ADDS),
    (swarm_get_findings, "Read what others found", READS),
    (swarm_propose_action, "Propose an action", ADDS),
    (swarm_vote, "Vote on an action", SETS),
    (swarm_claim_task, "Take an action", ADDS),
    (swarm_complete_task, "Tell what came of an action", SETS),
)
# For agents whose model should read little: to speak, look around, hand out and take work, and read what came of it.
CORE = frozenset(
    {
        *(federation_send, federation_inbox, federation_update_state, federation_pulse),
        *(federation_delegate, federation_claim_task, federation_release_task, federation_complete_task),
        *(federation_task_status, federation_task_result, federation_search),
    }
)


@cache
def offer(chosen: Literal["all", "core"] = "all") -> tuple[Tool, ...]:
    """Return the tools as FastMCP registers them, behind whichever door; their schemas refer to nothing, as some clients follow no reference."""
    entries = [entry for entry in TOOLS if chosen == "all" or entry[0] in CORE]
    return tuple(_plain(Tool.from_function(offered(tool), title=title, annotations=hints)) for tool, title, hints in entries)


def _plain(tool: Tool) -> Tool:
    answer = tool.output_schema and dereference_refs(tool.output_schema)
    return tool.model_copy(update={"parameters": dereference_refs(tool.parameters), "output_schema": answer})
