"""Language models as executions: the model runs between two transactions, and its answer is recorded once."""

from typing import Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.engines import catalogue
from federation.engines.contracts import ChatMessage
from federation.services import inference

ENGINE = inference.ENGINE


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
    """Ask this node's model and record the run; a delivery that comes after a recorded answer returns that answer.

    `counted` are the tokens that its asker was charged for it.

    Raises NotFound for a model that does not answer questions, ContextLengthError, ModelUnavailable.
    """
    with task.transaction() as session:
        former = inference.recorded(session, task.execution_id)
        if former is not None:
            return _shown(former)
    engine = catalogue.chat(model or ENGINE)
    turns = [ChatMessage(role=turn["role"], content=turn["content"]) for turn in messages]  # type: ignore[arg-type]  # checked by ChatMessage
    completion = engine.complete(turns, max_tokens=max_tokens, temperature=temperature, seed=seed)
    run = {
        "engine": ENGINE,
        "model": engine.name,
        "model_digest": engine.digest(),
        "node": task.node,
        "parameters": {"max_tokens": max_tokens, "temperature": temperature, "seed": seed},
        "prompt_sha256": inference.prompt_digest(messages),
        "completion": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "seconds": completion.seconds,
    }
    with task.transaction() as session:
        inference.record_run(session, run, counted=counted, remote=catalogue.is_remote(model or ENGINE))
        recorded = inference.recorded(session, task.execution_id)
        assert recorded is not None
        return _shown(recorded)


def _shown(run: Any) -> dict[str, Any]:
    shown = ("model", "model_digest", "node", "finish_reason", "prompt_tokens", "completion_tokens", "seconds")
    return {"text": run.completion, **{name: getattr(run, name) for name in shown}}


@shared_task(bind=True, base=FederationTask, name=inference.COMPLETE)
def complete(
    self: FederationTask, *, messages: list[dict[str, str]], max_tokens: int, temperature: float, seed: int, model: str | None = None
) -> dict[str, Any]:
    """Answer a prompt with this node's model."""
    counted = inference.tokens_at_most(messages, max_tokens)
    return answer(self, messages, max_tokens=max_tokens, temperature=temperature, seed=seed, counted=counted, model=model)
