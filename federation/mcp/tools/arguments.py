"""Arguments that several tools share, with the words that describe them to an agent."""

from typing import Annotated

from pydantic import Field

WaitS = Annotated[
    float,
    Field(ge=0, le=600, description="Seconds to wait, up to 600; 0 looks once. The call returns as soon as there is an answer."),
]
ConversationId = Annotated[
    str | None,
    Field(description="A conversation: a name that you choose («project-123») or one that exists. Only its members see what is in it."),
]
TaskReference = Annotated[str, Field(description="The task: its UUID, or the slug that its author chose («memory-profile»).")]
InConversation = Annotated[str | None, Field(description="The conversation of the task; needed only where a slug stands in several conversations.")]
Role = Annotated[str | None, Field(description="Only a node of this role: lead, developer or analyst. See federation_pulse.")]
Node = Annotated[str | None, Field(description="Only this node, by name, such as taichi. See federation_pulse.")]
Model = Annotated[str | None, Field(description="Only a node that has this model. See federation_pulse.")]
