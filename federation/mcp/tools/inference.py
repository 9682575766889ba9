"""The tool to ask a language model that runs on one of the nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.mcp.door import Call
from federation.mcp.tools.arguments import NUMBER, Model, Node, Role, WaitS, text
from federation.mcp.waits import value_of
from federation.services import inference
from federation.services.executions import State


@dataclass(frozen=True, slots=True)
class RouteStep:
    """One who was asked on the node."""

    name: Annotated[str, Field(description="A model server of the node, or its own engine.")]
    model: str
    outcome: Annotated[str, Field(description="answered; failed; or rests: it had failed a moment before, and was not asked.")]
    why: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said."""

    text: Annotated[str | None, Field(description="Null: it is late or cannot run now; read it with federation_task_result(execution_id).")]
    model: str | None
    model_digest: Annotated[str | None, Field(description="SHA-256 of the model's weights; null: its server does not tell it.")]
    node: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: Annotated[str | None, Field(description="stop: the model was done; length: max_tokens cut it off.")]
    seconds: float | None
    first_part_s: Annotated[float | None, Field(description="Seconds to the first part of the answer.")]
    route: Annotated[Sequence[RouteStep], Field(description="Who was asked, in order; the last one answered.")]
    execution_id: UUID
    state: State
    waiting_for: Annotated[str | None, Field(description="What a node must have that none alive has; it starts when one comes.")]
    note: Annotated[str | None, Field(description="What to do next.")]


async def federation_infer(
    call: Call,
    prompt: Annotated[
        str,
        text(
            "The question; with `system` it must fit the model's window: 2,048 tokens for SmolLM2, about 1,400 words.",
            examples=["What is the capital of France? Answer in one word."],
        ),
    ],
    *,
    max_tokens: Annotated[int, Field(ge=1, le=4096, description="Longest answer, in tokens."), NUMBER] = 128,
    temperature: Annotated[float, Field(ge=0, le=2, description="0 gives the same answer each time."), NUMBER] = 0.0,
    seed: Annotated[int, Field(ge=0, le=inference.LARGEST_SEED, description="Seed of the sampling."), NUMBER] = 0,
    system: Annotated[str | None, text("Instruction that precedes the question; omitted: a short one.", examples=["Answer in French."])] = None,
    role: Role = None,
    node: Node = None,
    model: Model = None,
    wait_s: WaitS = 60,
) -> Answer:
    """Ask a language model that runs on one of the nodes, and wait for the answer; nothing leaves the federation.

    It runs on a node that has the model; the answer names the node, the model and the digest of its weights. A small model answers
    simple questions only; see federation_pulse for the models there are. If `text` is null, nothing is lost: the question is recorded,
    and federation_task_result(execution_id, wait_s=60) waits for its answer. Asking again asks a second time.
    """
    given = {"role": role, "node": node, "model": model}
    needs = {name: value for name, value in given.items() if value}

    def ask(session: Session) -> UUID:
        return inference.request(session, prompt, max_tokens=max_tokens, temperature=temperature, seed=seed, system=system, requirements=needs)

    execution_id = await call.transact(ask)
    value, stands = await value_of(call, execution_id, wait_s=wait_s, waiting="the model is working")
    said: dict[str, Any] = value or {}
    return Answer(
        text=said.get("text"),
        model=said.get("model"),
        model_digest=said.get("model_digest"),
        node=said.get("node") or stands.node,
        prompt_tokens=said.get("prompt_tokens"),
        completion_tokens=said.get("completion_tokens"),
        finish_reason=said.get("finish_reason"),
        seconds=said.get("seconds"),
        first_part_s=said.get("first_part_s"),
        route=[RouteStep(**step) for step in said.get("route", ())],
        execution_id=execution_id,
        state=stands.state,
        waiting_for=stands.waiting_for,
        note=stands.note,
    )
