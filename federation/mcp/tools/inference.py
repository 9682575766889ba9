"""The tool to ask a language model that runs on one of the nodes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import ConfigDict, Field
from sqlalchemy.orm import Session
from typing_extensions import TypedDict  # pydantic refuses that of Python 3.11

from federation.mcp.door import Call
from federation.mcp.tools.arguments import NUMBER, Model, Node, Role, WaitS, name, text
from federation.mcp.waits import value_of
from federation.services import inference
from federation.services.cached_answers import Reused
from federation.services.executions import State

# Of a talk before the prompt.
MOST_TURNS = 200
Stop = Annotated[str, Field(min_length=1, max_length=inference.LONGEST_STOP)]


@dataclass(frozen=True, slots=True)
class RouteStep:
    """One who was asked."""

    name: Annotated[str, Field(description="A model server of the node, or its own engine.")]
    model: str
    outcome: Annotated[
        str,
        Field(
            description="answered; failed; rests: it had failed a moment before, and was not asked; cached: given before; missed: not given before."
        ),
    ]
    why: str
    seconds: float
    node: Annotated[str | None, Field(description="The node that asked.")] = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said."""

    text: Annotated[str | None, Field(description="Null: it is late or cannot run now; read it with federation_task_result(execution_id).")]
    data: Annotated[Any, Field(description="The answer as JSON, where a schema was given.")]
    model: str | None
    model_digest: Annotated[str | None, Field(description="SHA-256 of the model's weights; null: its server does not tell it.")]
    node: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: Annotated[str | None, Field(description="stop: the model was done; length: max_tokens cut it off.")]
    seconds: float | None
    first_part_s: Annotated[float | None, Field(description="Seconds to the first part of the answer.")]
    cached: Annotated[Reused | None, Field(description="The answer was given before, to nearly the same, and no model ran now. Null: one ran.")]
    route: Annotated[Sequence[RouteStep], Field(description="Who was asked, in order; the last one answered.")]
    execution_id: UUID
    state: State
    waiting_for: Annotated[str | None, Field(description="What a node must have that none alive has; it starts when one comes.")]
    note: Annotated[str | None, Field(description="What to do next, or why it was not remembered.")]
    memory_id: Annotated[UUID | None, Field(description="What it is remembered as; null: it is not.")] = None


class Turn(TypedDict):
    """One turn of a talk with a model."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic reads it

    role: Literal["user", "assistant"]
    content: Annotated[str, text("What was said.")]


async def federation_infer(
    call: Call,
    prompt: Annotated[
        str,
        text(
            "The question; with `system` and `messages` it must fit the model's window: 2,048 tokens for SmolLM2, about 1,400 words.",
            examples=["What is the capital of France? Answer in one word."],
        ),
    ],
    *,
    messages: Annotated[Sequence[Turn], Field(max_length=MOST_TURNS, description="The talk before the prompt, oldest turn first.")] = (),
    mode: Annotated[
        Literal["chat", "completion"], Field(description="chat: answer the prompt; completion: go on with its text, without `system` and `messages`.")
    ] = "chat",
    max_tokens: Annotated[int, Field(ge=1, le=inference.LONGEST_ANSWER, description="Longest answer, in tokens."), NUMBER] = 128,
    temperature: Annotated[float, Field(ge=0, le=2, description="0 gives the same answer each time."), NUMBER] = 0.0,
    seed: Annotated[int, Field(ge=0, le=inference.LARGEST_SEED, description="Seed of the sampling."), NUMBER] = 0,
    stop: Annotated[Sequence[Stop], Field(max_length=inference.MOST_STOPS, description="Texts at which the answer ends, before them.")] = (),
    schema: Annotated[
        dict[str, Any] | None,
        Field(
            description="JSON Schema that the answer must fit, which is read into `data`; without `pattern` and outer references.",
            examples=[{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}],
        ),
    ] = None,
    system: Annotated[
        str | None, text("Instruction that precedes the question; omitted: a short one, that of `role`.", examples=["Answer in French."])
    ] = None,
    role: Role = None,
    node: Node = None,
    model: Model = None,
    remember: Annotated[
        bool | None,
        Field(
            description="Whether question and answer are kept for yourself, for federation_recall, if the answer is whole, no excuse, more than the "
            "question, and no repetition; omitted: as the operator has set it, else no."
        ),
    ] = None,
    cache: Annotated[
        bool,
        Field(
            description="Take an answer that was given to nearly the same question with the same other arguments, and keep this one for the next; "
            "where the operator allows it, without `messages` and a temperature, up to 256 tokens."
        ),
    ] = False,
    conversation_id: Annotated[
        str | None, name("With `cache`: the conversation whose members share the answers; omitted: nobody but you.", examples=["project-123"])
    ] = None,
    wait_s: WaitS = 60,
) -> Answer:
    """Ask a language model that a node runs or has served, and wait for the answer, whose parts are told as progress while it is made.

    The answer names node, model and digest of the weights, and who else was asked. A small model answers simple questions only; see
    federation_pulse for those there are. If `text` is null, nothing is lost: federation_task_result(execution_id, wait_s=60) waits for the answer,
    federation_cancel_task(execution_id) ends it. Asking again asks a second time, but with
    `cache`.
    """
    given = {"role": role, "node": node, "model": model}
    needs = {name: value for name, value in given.items() if value}
    execution_id = uuid4()

    def ask(session: Session) -> UUID:
        return inference.request(
            session,
            prompt,
            before=[{"role": turn["role"], "content": turn["content"]} for turn in messages],
            raw=mode == "completion",
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            stop=stop,
            schema=schema,
            system=system,
            requirements=needs,
            cache=cache,
            conversation_id=conversation_id,
            remember=remember,
            execution_id=execution_id,
        )

    value, stands = await value_of(call, execution_id, wait_s=wait_s, waiting="the model is working", record=ask)
    said: dict[str, Any] = value or {}
    return Answer(
        text=said.get("text"),
        data=json.loads(said["text"]) if said and schema is not None else None,
        model=said.get("model"),
        model_digest=said.get("model_digest"),
        node=said.get("node") or stands.node,
        prompt_tokens=said.get("prompt_tokens"),
        completion_tokens=said.get("completion_tokens"),
        finish_reason=said.get("finish_reason"),
        seconds=said.get("seconds"),
        first_part_s=said.get("first_part_s"),
        cached=_reused(said.get("cached")),
        route=[RouteStep(**step) for step in said.get("route", ())],
        execution_id=execution_id,
        state=stands.state,
        waiting_for=stands.waiting_for,
        note=f"not remembered: {said['not_remembered']}" if said.get("not_remembered") else stands.note,
        memory_id=UUID(said["memory_id"]) if said.get("memory_id") else None,
    )


def _reused(cached: dict[str, Any] | None) -> Reused | None:
    return None if cached is None else Reused(**{**cached, "execution_id": UUID(cached["execution_id"])})
