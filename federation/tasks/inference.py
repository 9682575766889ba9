"""Language models as executions: the model runs between two transactions, tells its parts meanwhile, and its answer is recorded once."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from celery import shared_task
from sqlalchemy.orm import Session

from federation.delivery import elsewhere, models
from federation.delivery.task import FederationTask
from federation.engines.contracts import Asked, ChatMessage, Completion, Halt, Hear
from federation.engines.routing import NoAnswer, Source, Step
from federation.services import answers, cached_answers, inference, schemas
from federation.tasks.cached_answers import look

# Who waits for an answer hears of its parts so often, and of the first one at once; where many answers are made at a time each tells less often,
# because a tell is two commits and a look, and a server that shares the processor is the slower for it.
TELL_S = 0.25
TELLS_PER_S = 16


def answer(
    task: FederationTask,
    messages: list[dict[str, str]],
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
    counted: int,
    model: str | None = None,
    raw: bool = False,
    stop: Sequence[str] = (),
    schema: Mapping[str, Any] | None = None,
    by_role: str | None = None,
    cache: Mapping[str, Any] | None = None,
    may_move: bool = False,
    former: Mapping[str, Any] | None = None,
    remember: bool = False,
) -> dict[str, Any]:
    """Ask a model of this node and record the run; a delivery that comes after a recorded answer returns that answer.

    `counted` are the tokens that its asker was charged for it. While it is made, who waits for it hears its parts; cancelled, it ends. What no model
    of this node answers now, and `may_move`, is asked of another node at once; `former` is what became of it on those before. `by_role` is the role
    for which the charter chose the model. With a `cache` no model is asked where the same was answered before, and what one answers is kept.
    An answer that is good enough its asker is to `remember`.

    Raises NotFound for a model that does not answer questions, ContextLengthError, ModelUnavailable, EngineUnavailable, AnswerMisfits for one that is
    not the JSON of the schema, Cancelled.
    """
    if not task.is_first_delivery:
        with task.transaction() as session:
            if inference.recorded(session, task.execution_id) is not None:
                return _recorded(session, task, remember=remember)
    turns = [ChatMessage(role=turn["role"], content=turn["content"]) for turn in messages]  # type: ignore[arg-type]  # checked by ChatMessage
    asked = Asked(turns, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop, schema=schema, raw=raw)
    teller, halt = _Teller(task, total=max_tokens), Halt()
    # A later try of the same, after a pause, begins anew.
    before: list[dict[str, Any]] = former["route"] if former and former["retries"] == task.request.retries else []
    common = {"node": task.node, "parameters": _parameters(asked), "prompt_sha256": inference.prompt_digest(messages)}
    looked = None if cache is None else look(task, cache, prompt=messages[-1]["content"], model=model)
    if looked is not None:
        before = [*before, {"node": task.node, **asdict(looked.step(model))}]
        if (run := looked.run()) is not None:
            with task.transaction() as session:
                if is_new := inference.record_run(session, {**common, **run, "route": before}, counted=counted):
                    cached_answers.use(session, run["cached"]["execution_id"])
                return _recorded(session, task, remember=remember, is_new=is_new)
    try:
        with task.ended_by(halt.set):
            key = inference.affinity(model, messages)
            routed = models.router(task.node).ask(asked, model=model, key=key, hear_of=teller.begin, halt=halt, check=_check(schema))
    except NoAnswer as error:
        if may_move:
            route = [*before, *_told(task, error.steps, by_role)]
            moved = {"former": {"retries": task.request.retries + 1, "route": route}}
            elsewhere.hand_over(task, error, tried={task.node, *(step["node"] for step in before)}, changed=moved)
        raise
    completion, source = routed.completion, routed.source
    run = {
        **common,
        "engine": source.engine,
        "model": source.model,
        "model_digest": routed.digest,
        "completion": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "seconds": completion.seconds,
        "first_part_s": completion.first_part_s,
        "route": [*before, *_told(task, routed.steps, by_role)],
    }
    with task.transaction() as session:
        is_new = inference.record_run(session, run, counted=counted, remote=source.remote)
        # One that was cut off, or is empty, is of no use to anybody else.
        if is_new and cache and looked and looked.vector and completion.finish_reason == "stop" and completion.text.strip():
            cached_answers.keep(session, prompt=messages[-1]["content"], vector=looked.vector, **cache)
        return _recorded(session, task, remember=remember, is_new=is_new)


def _recorded(session: Session, task: FederationTask, *, remember: bool, is_new: bool = False) -> dict[str, Any]:
    """Return what is recorded, which its asker is to `remember` when it `is_new`."""
    recorded = inference.recorded(session, task.execution_id)
    assert recorded is not None
    if not remember:
        return _shown(recorded)
    why_not = answers.keep(session, task.execution_id) if is_new else None
    kept = answers.kept(session, task.execution_id)
    return _shown(recorded, memory_id=None if kept is None else str(kept), not_remembered=why_not)


def _told(task: FederationTask, steps: Sequence[Step], by_role: str | None) -> list[dict[str, Any]]:
    because = f"the model of role {by_role}: " if by_role else ""
    return [{"node": task.node, **asdict(step), "why": because + step.why} for step in steps]


def _parameters(asked: Asked) -> dict[str, Any]:
    always = {"max_tokens": asked.max_tokens, "temperature": asked.temperature, "seed": asked.seed}
    form = {} if asked.schema is None else {"schema": asked.schema}
    return always | form | {name: value for name, value in {"stop": list(asked.stop), "raw": asked.raw}.items() if value}


def _check(schema: Mapping[str, Any] | None) -> Any:
    def fits(completion: Completion) -> None:
        if schema is not None:
            schemas.fitted(schema, completion.text)

    return fits


class _Teller:
    """Tells who waits how an answer grows; whoever is asked after another begins it anew."""

    def __init__(self, task: FederationTask, *, total: int) -> None:
        self._task, self._total = task, total
        self._parts: list[str] = []
        self._due, self._number = 0.0, 0

    def begin(self, source: Source) -> Hear:
        """Return what hears the parts of this one."""
        self._parts, self._due = [], 0.0
        return partial(self._hear, source)

    def _hear(self, source: Source, part: str) -> None:
        self._parts.append(part)
        if time.monotonic() < self._due:
            return
        text = "".join(self._parts)
        self._number += 1
        told = partial(inference.tell_part, number=self._number, characters=len(text))
        self._task.tell_progress(min(len(self._parts), self._total), self._total, text, besides=told)
        self._due = time.monotonic() + max(TELL_S, source.in_flight / TELLS_PER_S)


def _shown(run: Any, **more: Any) -> dict[str, Any]:
    shown = ("model", "model_digest", "node", "finish_reason", "prompt_tokens", "completion_tokens", "seconds", "first_part_s", "route", "cached")
    return {"text": run.completion, **{name: getattr(run, name) for name in shown}, **more}


# Each node that it goes to takes one of its tries.
@shared_task(bind=True, base=FederationTask, name=inference.COMPLETE, max_retries=FederationTask.max_retries * 2)
def complete(
    self: FederationTask,
    *,
    messages: list[dict[str, str]],
    max_tokens: int,
    temperature: float,
    seed: int,
    model: str | None = None,
    raw: bool = False,
    stop: Sequence[str] = (),
    schema: Mapping[str, Any] | None = None,
    by_role: str | None = None,
    cache: Mapping[str, Any] | None = None,
    former: Mapping[str, Any] | None = None,
    remember: bool = False,
) -> dict[str, Any]:
    """Answer a prompt with a model of this node, or have another node do it where none of its models answers now."""
    counted = inference.tokens_at_most(messages, max_tokens)
    return answer(
        self,
        messages,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        counted=counted,
        model=model,
        raw=raw,
        stop=stop,
        schema=schema,
        by_role=by_role,
        cache=cache,
        may_move=True,
        former=former,
        remember=remember,
    )
