"""Looks for an answer that was given before to nearly the same question, before a model is asked."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from federation.delivery import models
from federation.delivery.task import FederationTask
from federation.engines import catalogue, likeness
from federation.engines.contracts import EmbeddingEngine
from federation.engines.routing import Outcome, Step
from federation.errors import ContextLengthError, EngineUnavailable, ModelUnavailable
from federation.placement.node_file import node_file
from federation.services import cached_answers
from federation.services.cached_answers import Kept
from federation.services.retrieval import EMBEDDING_ENGINE
from federation.settings import settings, variable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Who has answered, in the route of an answer.
NAME = "cache"


@dataclass(slots=True)
class Look:
    """A look into the cache: what was found there, or why nothing was; `vector` is that of the prompt, if its answer may be kept."""

    why: str
    found: Kept | None = None
    similarity: float = 0.0
    vector: bytes | None = None
    seconds: float = 0.0

    def step(self, model: str | None) -> Step:
        """Return it as a step of the answer's route."""
        outcome = Outcome.MISSED if self.found is None else Outcome.CACHED
        return Step(NAME, (model or "any") if self.found is None else self.found.model, outcome, self.why, round(self.seconds, 3))

    def run(self) -> dict[str, Any] | None:
        """Return what is recorded of an answer that was found: no model has read or written anything."""
        if (found := self.found) is None:
            return None
        cached = {"execution_id": str(found.execution_id), "by": found.by, "similarity": self.similarity, "age_s": round(found.age_s, 1)}
        made = {"engine": found.engine, "model": found.model, "model_digest": found.model_digest, "completion": found.completion}
        spent = {"prompt_tokens": 0, "completion_tokens": 0, "seconds": self.seconds, "first_part_s": None}
        return {**made, **spent, "finish_reason": "stop", "cached": cached}


def look(task: FederationTask, cache: Mapping[str, Any], *, prompt: str, model: str | None) -> Look:
    """Return what the cache has for a prompt, in the name of who asks; `cache` is what the service wants of it.

    Raises NotFound for a model that this node has not.
    """
    started = time.monotonic()
    looked = _look(task, cache, prompt=prompt, model=model)
    looked.seconds = time.monotonic() - started
    return looked


def _look(task: FederationTask, cache: Mapping[str, Any], *, prompt: str, model: str | None) -> Look:
    left_out = cache.get("left_out")
    if left_out is None and not settings().cached_answers:
        left_out = f"it is not allowed on this node ({variable('cached_answers')})"
    if left_out is None and EMBEDDING_ENGINE not in node_file(task.node).engines:
        left_out = f"this node has not the engine {EMBEDDING_ENGINE}, which compares prompts"
    if left_out is not None:
        return Look(f"not looked at: {left_out}")
    try:
        engine = catalogue.embedding(EMBEDDING_ENGINE)
        [vector] = engine.embed([likeness.asked(prompt)])
    except (ContextLengthError, EngineUnavailable, ModelUnavailable) as error:
        return Look(f"not looked at: {error}")
    with task.transaction() as session:
        kept = cached_answers.kept(session, cache["key"])
    mine = vector.astype("<f4").tobytes()
    for similarity, each in _near(engine, prompt, vector, kept):
        if models.router(task.node).has_weights(each.model, each.model_digest, named=model):
            why = f"{each.by} asked {'the same' if similarity == 1 else 'nearly the same'} before, and no model was asked"
            return Look(why, each, similarity, mine)
    return Look("nothing so near was asked before", vector=mine)


def _near(engine: EmbeddingEngine, prompt: str, vector: "NDArray[np.float32]", kept: Sequence[Kept]) -> list[tuple[float, Kept]]:
    """Return those that were asked nearly the same, the nearest first, then the latest."""
    import numpy as np  # noqa: PLC0415 - a node without models has none

    least = settings().cached_answer_similarity
    cosines = ((float(np.frombuffer(each.vector, "<f4") @ vector), each) for each in kept)
    near = [(cosine, each) for cosine, each in cosines if cosine >= least or each.prompt == prompt]
    found = [(likeness.similarity(engine, prompt, each.prompt, cosine=cosine), each) for cosine, each in near]
    return sorted((pair for pair in found if pair[0] >= least), key=lambda pair: -pair[0])
