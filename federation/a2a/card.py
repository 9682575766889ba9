"""The agent card of A2A: what a stranger may know of the front door before it has a token; names no agent and asks nobody."""

from importlib.metadata import version
from typing import Any

from federation.store.models.tasks import TaskType

CARD = "/.well-known/agent-card.json"
PATH = "/a2a"
PROTOCOL = "1.0"
TAKES = ("text/plain", "application/json")
GIVES = ("application/json", "text/plain")

_SKILLS = {
    TaskType.INVESTIGATE: "Finds out what is behind something, and says what it found.",
    TaskType.ANALYZE: "Looks into data, code or a question, and says what follows.",
    TaskType.REMEDIATE: "Puts something right, where the charter lets who asks hand out such work.",
    TaskType.REPORT: "Sums up; a node's report is extracted from what was said in the context.",
}


def card(base: str) -> dict[str, Any]:
    """Return the card of a front door that is reached at the URL `base`, as JSON has it."""
    return {
        "name": "federation",
        "description": "A team of agents, people and machines. A message becomes a task, which one of them does; its artifact is what came of it.",
        "version": version("federation"),
        "supportedInterfaces": [{"url": f"{base}{PATH}", "protocolBinding": "JSONRPC", "protocolVersion": PROTOCOL}],
        "capabilities": {"streaming": False, "pushNotifications": False, "extendedAgentCard": False},
        "securitySchemes": {
            "bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer", "description": "A token that the federation's operator gives."}}
        },
        "securityRequirements": [{"schemes": {"bearer": {"list": []}}}],
        "defaultInputModes": list(TAKES),
        "defaultOutputModes": list(GIVES),
        "skills": [_skill(kind, does) for kind, does in _SKILLS.items()],
    }


def _skill(kind: TaskType, does: str) -> dict[str, Any]:
    # A2A has no field in which a message names a skill.
    return {
        "id": str(kind),
        "name": kind.capitalize(),
        "description": f'{does} Asked for with the metadata {{"federation": {{"task_type": "{kind}"}}}} of a message.',
        "tags": ["task", str(kind)],
    }
