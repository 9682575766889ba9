"""Arguments that several tools share: their types, their limits, and the words that describe them to an agent."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from federation.security.statements import LONGEST as LONGEST_STATEMENT
from federation.services.names import PATTERN
from federation.services.resources import LONGEST as LONGEST_RESOURCE
from federation.services.resources import LONGEST_TTL_S, SHORTEST_TTL_S
from federation.services.resources import PATTERN as RESOURCE_PATTERN
from federation.services.storable import LONGEST_TEXT

# Lines that everybody sees in the pulse.
LONGEST_LINE = 1_000
NOT_BLANK = r"\S"


def text(description: str, *, longest: int = LONGEST_TEXT, **more: Any) -> Any:
    """Return the field of a text that says something."""
    return Field(min_length=1, max_length=longest, pattern=NOT_BLANK, description=description, **more)


def name(description: str, **more: Any) -> Any:
    """Return the field of a name that somebody chose."""
    return Field(pattern=f"^{PATTERN}$", description=description, **more)


def folder(description: str, **more: Any) -> Any:
    """Return the field of an absolute path."""
    return Field(min_length=1, max_length=4096, pattern="^/", description=description, **more)


def _no_truth(value: Any) -> Any:
    # Python counts with true and false, an agent that sends one meant something else.
    if isinstance(value, bool):
        raise PydanticCustomError("no_number", "a number")
    return value


NUMBER = BeforeValidator(_no_truth)


def _written_out(value: Any) -> Any:
    # A number, also one in a text, is seconds since 1970 to pydantic, and to an agent perhaps seconds from now.
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):
        raise PydanticCustomError("no_moment", "a date and time")
    return value


# Beyond these years conversions between time zones overflow.
Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(9998, 12, 31, tzinfo=UTC)),
    BeforeValidator(_written_out),
]
WaitS = Annotated[
    float,
    Field(
        ge=0,
        le=600,
        description="Seconds to wait for the answer, up to 600; 0 looks once. The call returns as soon as there is one, "
        "and at once when no live node can do it: then `state` is unplaced and `waiting_for` says what is missing.",
    ),
    NUMBER,
]
ConversationId = Annotated[
    str | None,
    name(
        "The conversation: a name that you choose, or one that exists. Only its members see what is in it; you are a member of those that you "
        "open and of those in which somebody wrote to you by name.",
        examples=["project-123"],
    ),
]
ToMessage = Annotated[
    str | None,
    name(
        "Who shall read it: an agent by name (see federation_pulse); role:developer, those of that role; capability:analyze_logs, any who says that "
        "he can. Omitted: all members of the conversation.",
        examples=["bob", "role:developer"],
    ),
]
TaskReference = Annotated[
    str,
    name("The task: its UUID, or the name that its author chose as task_id.", examples=["memory-profile", "0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a11"]),
]
AnyReference = Annotated[
    str,
    name(
        "A task's UUID or the name that its author chose as task_id; or an execution_id or run_id that another tool returned to you.",
        examples=["memory-profile", "0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a11"],
    ),
]
InConversation = Annotated[
    str | None,
    name("The conversation of the task; needed only where its name stands in several of your conversations.", examples=["project-123"]),
]
Role = Annotated[str | None, name("Only a node of this role: lead, developer or analyst. See federation_pulse.", examples=["developer"])]
Node = Annotated[str | None, name("Only this node, by name. See federation_pulse.", examples=["taichi"])]
Model = Annotated[str | None, text("Only a node that has this model. See federation_pulse.", longest=200, examples=["SmolLM2-135M-Instruct"])]
ResourceName = Annotated[
    str,
    Field(
        pattern=RESOURCE_PATTERN,
        max_length=LONGEST_RESOURCE,
        description="A kind and a path, such as a file from its repository's root, or a folder with all below it, by /** at the end.",
        examples=["file:src/main.py", "file:src/**", "deploy:production"],
    ),
]
LineS = Annotated[
    float,
    Field(ge=0, le=600, description="Seconds to wait in line if somebody has it, up to 600; call again within half a minute to go on waiting."),
    NUMBER,
]
TtlS = Annotated[
    float | None,
    Field(
        ge=SHORTEST_TTL_S,
        le=LONGEST_TTL_S,
        description="Seconds that the claim holds; omitted: as many as the operator has set, 300 if none. Claim again to extend it.",
    ),
    NUMBER,
]
FencingToken = Annotated[int, Field(ge=1, lt=2**63, description="The fencing_token that federation_claim_task gave you.", examples=[1]), NUMBER]
StatementText = Annotated[
    str | None,
    Field(max_length=LONGEST_STATEMENT, description="Only if you sign with a key of your own: the statement of this call, as JSON."),
]
StatementSignature = Annotated[str | None, Field(max_length=88, description="Your Ed25519 signature of it, in base64.")]
MessageId = Annotated[
    UUID | None,
    Field(
        description="message_id of the message that you answer; the answer goes into its conversation, and to its sender alone if it was "
        "sent to you alone."
    ),
]
