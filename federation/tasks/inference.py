"""Language models as executions: the model runs between two transactions, and its answer is recorded once."""

from dataclasses import asdict
from typing import Any

from celery import shared_task

from federation.delivery import models
from federation.delivery.task import FederationTask
from federation.engines.contracts import Asked, ChatMessage, Halt, nobody
from federation.services import inference


def answer(
    task: FederationTask,
    messages: list[dict[str, str]],
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
    counted: int,
    model: str | None = None,
) -> dict[str, Any]:
    """Ask a model of this node and record the run; a delivery that comes after a recorded answer returns that answer.

    `counted` are the tokens that its asker was charged for it.

    Raises NotFound for a model that does not answer questions, ContextLengthError, ModelUnavailable, EngineUnavailable.
    """
    with task.transaction() as session:
        former = inference.recorded(session, task.execution_id)
        if former is not None:
            return _shown(former)
    turns = [ChatMessage(role=turn["role"], content=turn["content"]) for turn in messages]  # type: ignore[arg-type]  # checked by ChatMessage
    asked = Asked(turns, max_tokens=max_tokens, temperature=temperature, seed=seed)
    routed = models.router(task.node).ask(asked, model=model, hear_of=lambda _: nobody, halt=Halt())
    completion, source = routed.completion, routed.source
    run = {
        "engine": source.engine,
        "model": source.model,
        "model_digest": routed.digest,
        "node": task.node,
        "parameters": {"max_tokens": max_tokens, "temperature": temperature, "seed": seed},
        "prompt_sha256": inference.prompt_digest(messages),
        "completion": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "seconds": completion.seconds,
        "first_part_s": completion.first_part_s,
        "route": [asdict(step) for step in routed.steps],
    }
    with task.transaction() as session:
        inference.record_run(session, run, counted=counted, remote=source.remote)
        recorded = inference.recorded(session, task.execution_id)
        assert recorded is not None
        return _shown(recorded)


def _shown(run: Any) -> dict[str, Any]:
    shown = ("model", "model_digest", "node", "finish_reason", "prompt_tokens", "completion_tokens", "seconds", "first_part_s", "route")
    return {"text": run.completion, **{name: getattr(run, name) for name in shown}}


@shared_task(bind=True, base=FederationTask, name=inference.COMPLETE)
def complete(
    self: FederationTask, *, messages: list[dict[str, str]], max_tokens: int, temperature: float, seed: int, model: str | None = None
) -> dict[str, Any]:
    """Answer a prompt with a model of this node."""
    counted = inference.tokens_at_most(messages, max_tokens)
    return answer(self, messages, max_tokens=max_tokens, temperature=temperature, seed=seed, counted=counted, model=model)
