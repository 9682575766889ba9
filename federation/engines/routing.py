"""Which model of a node answers: the first of its list that can, else the next; tells with each answer who was asked and why; knows no node."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from federation.breaker import Breaker
from federation.engines import ranking
from federation.engines.contracts import Asked, ChatEngine, ChatMessage, Completion, Halt, Hear
from federation.errors import AnswerMisfits, ContextLengthError, EngineUnavailable, FederationError, ModelUnavailable, NotFound

logger = logging.getLogger(__name__)

# So long a server's word about its queue counts.
QUEUE_S = 0.5

_PROBE = Asked([ChatMessage("user", "Say yes.")], max_tokens=1)


class Outcome(StrEnum):
    """What came of asking one of them."""

    ANSWERED = "answered"
    FAILED = "failed"
    RESTS = "rests"
    # Before any of them: whether an answer of before was given again.
    CACHED = "cached"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Step:
    """One who was asked, or was not because it rests: what came of it, why, and after how many seconds."""

    name: str
    model: str
    outcome: Outcome
    why: str
    seconds: float


@dataclass
class Source:
    """What may answer: a model server, or the model of this process. `load` is called for each answer."""

    name: str
    engine: str
    model: str
    load: Callable[[], ChatEngine]
    remote: bool = False
    is_small: bool = False
    places: int = 1
    # How many requests it says that it has; None where it does not say.
    queue: Callable[[], int | None] = lambda: None
    summarises: bool = False
    breaker: Breaker = field(default_factory=lambda: Breaker(first_s=1.0, longest_s=60.0))
    in_flight: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    _is_probed: bool = False
    _told: int = 0
    _told_at: float = -math.inf

    @property
    def rests(self) -> bool:
        """Whether it has failed and not yet answered again."""
        return not self.breaker.is_closed

    def depth(self) -> int:
        """Return how many requests it has: as it said a moment ago, and at least those of this process; one that cannot say it rests."""
        # One asks at a time; who comes meanwhile goes by what it said before.
        if time.monotonic() - self._told_at > QUEUE_S and self._looking.acquire(blocking=False):
            try:
                self._told = self.queue() or 0
            except (EngineUnavailable, ModelUnavailable) as error:
                logger.warning("model.failed source=%s reason=%s", self.name, error)
                self.breaker.failed()
            finally:
                self._told_at = time.monotonic()
                self._looking.release()
        return max(self._told, self.in_flight)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count an answer that is being made."""
        with self._lock:
            self.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1

    def probe(self) -> None:
        """Find out in a thread whether it answers again, where it has rested for long enough; callers do not wait for it."""
        with self._lock:
            if self._is_probed or self.breaker.is_closed or self.breaker.is_open:
                return
            self._is_probed = True
        threading.Thread(target=self._look, name=f"probe-{self.name}", daemon=True).start()

    def _look(self) -> None:
        try:
            engine = self.load()
            engine.digest()
            engine.complete(_PROBE)
            self.breaker.succeeded()
            logger.info("model.answers_again source=%s", self.name)
        except Exception as error:  # noqa: BLE001 - whatever it is, it does not answer
            self.breaker.failed()
            logger.info("model.still_rests source=%s reason=%s", self.name, error)
        finally:
            self._is_probed = False


@dataclass(frozen=True, slots=True)
class Routed:
    """An answer, whose it is, and the way to it."""

    completion: Completion
    source: Source
    digest: str | None
    steps: Sequence[Step]


class NoAnswer(EngineUnavailable):
    """No model of the list answers now; `steps` are who was asked."""

    def __init__(self, message: str, steps: Sequence[Step]) -> None:
        super().__init__(message)
        self.steps = steps


def _passes(completion: Completion) -> None: ...


def _has_weights(source: Source, digest: str | None) -> bool:
    try:
        return not source.rests and source.load().digest() == digest
    except (EngineUnavailable, ModelUnavailable):
        return False


class Router:
    """The models of a node in the order in which they are asked."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def named(self, model: str | None) -> Sequence[Source]:
        """Return those that have this model, or go by this name; all without one. Raises NotFound."""
        if model is None and self._sources:
            return self._sources
        wanted = (model or "").casefold()
        found = [source for source in self._sources if wanted in (source.name, source.engine, source.model.casefold())]
        if not found:
            raise NotFound("chat engine", model or "any", [name for source in self._sources for name in (source.name, source.model)])
        return found

    def has_weights(self, model: str, digest: str | None, *, named: str | None) -> bool:
        """Say whether one of those that go by this name (all without one) has this model with the same weights, and answers. Raises NotFound."""
        return any(source.model == model and _has_weights(source, digest) for source in self.named(named))

    def that_summarise(self) -> "Router | None":
        """Return those that may write summaries, in the same order; None where none may."""
        found = [source for source in self._sources if source.summarises]
        return Router(found) if found else None

    def has(self, model: str) -> bool:
        """Say whether one of them has this model."""
        return any(source.model.casefold() == model.casefold() for source in self._sources)

    def ask(
        self,
        asked: Asked,
        *,
        model: str | None = None,
        key: str | None = None,
        hear_of: Callable[[Source], Hear],
        halt: Halt,
        check: Callable[[Completion], object] = _passes,
    ) -> Routed:
        """Return the first answer that `check` lets pass; `hear_of` is called for whoever is asked, and hears its parts.

        Equal `key`s go to the same server of a model, while its queue is not much longer than others'.

        Raises NotFound for a model that this node has not; where all have failed, NoAnswer if one may answer later, else what the last one
        raised; at once InvalidInput, and Halted.
        """
        way = _Way(asked, hear_of, halt, check)
        rested = []
        for source, why in ranking.order(self.named(model), asked, key=key):
            if source.rests:
                source.probe()
                rested.append(source)
                way.steps.append(Step(source.name, source.model, Outcome.RESTS, "it failed a moment ago", 0.0))
            elif (routed := way.try_on(source, why)) is not None:
                return routed
        for source in rested:
            # Nobody else has answered, so this one is tried without waiting for the probe, unless that is in vain.
            if not source.breaker.is_open and (routed := way.try_on(source, "it has rested, and nobody else answered")) is not None:
                return routed
        raise way.failure()


@dataclass
class _Way:
    """One question on its way along the list."""

    asked: Asked
    hear_of: Callable[[Source], Hear]
    halt: Halt
    check: Callable[[Completion], object]
    steps: list[Step] = field(default_factory=list)
    errors: list[FederationError] = field(default_factory=list)
    passed_over: set[str] = field(default_factory=set)

    def try_on(self, source: Source, why: str) -> Routed | None:
        """Return its answer; None where another may do better. Raises InvalidInput, Halted, and what `hear` raises."""
        if source.model in self.passed_over:
            return None
        started = time.monotonic()
        try:
            with source.counted():
                engine = source.load()
                digests: list[str | None] = []
                # Before a part is heard, because a server may have another model by now, and would answer with it; while it reads the question.
                completion = engine.complete(self.asked, hear=self.hear_of(source), halt=self.halt, meanwhile=lambda: digests.append(engine.digest()))
            source.breaker.succeeded()
            self.check(completion)
        except (EngineUnavailable, ModelUnavailable) as error:
            source.breaker.failed()
            logger.warning("model.failed source=%s reason=%s", source.name, error)
            self._failed(source, error, started)
        except ContextLengthError as error:
            self.passed_over.add(source.model)
            self._failed(source, error, started)
        except AnswerMisfits as error:
            # The same model says the same again; a larger one may do better.
            self.passed_over.add(source.model)
            self._failed(source, error, started)
        else:
            self._step(source, Outcome.ANSWERED, "those before it did not" if self.errors else why, started)
            return Routed(completion, source, digests[0], tuple(self.steps))
        return None

    def _failed(self, source: Source, error: FederationError, started: float) -> None:
        self.errors.append(error)
        self._step(source, Outcome.FAILED, str(error), started)

    def _step(self, source: Source, outcome: Outcome, why: str, started: float) -> None:
        self.steps.append(Step(source.name, source.model, outcome, why, round(time.monotonic() - started, 3)))

    def failure(self) -> FederationError:
        """Return the error of a question that nobody answered."""
        if self.errors and not any(isinstance(error, EngineUnavailable) for error in self.errors):
            is_told = len(self.steps) == 1 or not isinstance(self.errors[-1], AnswerMisfits)
            return self.errors[-1] if is_told else AnswerMisfits(f"no answer will do ({self._story()})")
        told = str(self.errors[0]) if len(self.steps) == 1 and self.errors else f"no model of this node answers now ({self._story()}); try again"
        return NoAnswer(told, tuple(self.steps))

    def _story(self) -> str:
        return "; ".join(f"{step.name}: {step.why}" for step in self.steps)
