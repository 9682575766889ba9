"""A question to a model with its answer, kept as a memory: of what the caller asked himself, and only what was answered to the end and well."""

import re
import uuid

from sqlalchemy.orm import Session

from federation.errors import InvalidInput, NotFound, OverQuota, TransientError
from federation.services import inference, memories
from federation.store import event_log
from federation.store.models.executions import Execution
from federation.store.models.inference import ModelRun

LENGTH = "length"
# Below this many words a repetition is a matter of taste; of longer answers this share of runs of four words must stand there once.
LONG_ENOUGH, LEAST_DISTINCT = 24, 0.5
_EXCUSES = re.compile(
    r"\W*(?:i'?m sorry|i am sorry|sorry\b|i apologi[sz]e|i (?:cannot|can'?t|am unable to|do(?:n'?t| not) (?:know|have))\b|as an ai\b|unfortunately)",
    re.IGNORECASE,
)


def pair(session: Session, execution_id: uuid.UUID) -> str:
    """Return a question of the caller's with its answer as one text; one that a schema was given for fits it, or it were not recorded.

    Raises NotFound for what is nobody's or another's question, InvalidInput for an answer that is not there, is empty or was cut off.
    """
    asked, run = _found(session, execution_id)
    if run is None:
        raise InvalidInput("answer", str(execution_id), "a question that was answered; read it with federation_task_result")
    if (was := _is_broken(run)) is not None:
        raise InvalidInput("answer", f"one that was {was}", "an answer that is whole; ask anew, for more tokens")
    return _text(asked, run)


def keep(session: Session, execution_id: uuid.UUID) -> str | None:
    """Remember a question of the caller's with its answer for itself alone; return why not, where the answer is not good enough or there is no room.

    Raises NotFound for what is nobody's or another's question, or has no answer.
    """
    asked, run = _found(session, execution_id)
    if run is None:
        raise NotFound("answer", str(execution_id))
    why = flaw(_question(asked), run)
    if why is None and len(_text(asked, run)) > memories.LONGEST:
        why = f"question and answer have more than {memories.LONGEST} characters"
    if why is not None:
        return why
    attempt = event_log.attempt(session)
    try:
        memories.remember(session, _text(asked, run))
    except (OverQuota, TransientError) as error:
        # The answer is there, and is told.
        attempt.rollback()
        return str(error)
    attempt.commit()
    return None


def kept(session: Session, execution_id: uuid.UUID) -> uuid.UUID | None:
    """Return the memory that has just this question and answer, if the caller has it."""
    asked, run = _found(session, execution_id)
    return None if run is None else memories.own(session, _text(asked, run))


def flaw(question: str, run: ModelRun) -> str | None:
    """Return why an answer is not worth keeping, in words; None for one that is whole, says something new, and says it once."""
    if (was := _is_broken(run)) is not None:
        return f"the answer was {was}"
    if _EXCUSES.match(run.completion):
        return "the answer is an excuse"
    words, asked = _words(run.completion), set(_words(question))
    if not any(word not in asked for word in words):
        return "the answer says nothing that the question does not"
    fours = list(zip(*(words[start:] for start in range(4)), strict=False))
    if len(words) >= LONG_ENOUGH and len(set(fours)) < LEAST_DISTINCT * len(fours):
        return "the answer repeats itself"
    return None


def _found(session: Session, execution_id: uuid.UUID) -> tuple[Execution, ModelRun | None]:
    asked, run = session.get(Execution, execution_id), inference.recorded(session, execution_id)
    if asked is None or asked.task_name != inference.COMPLETE:
        raise NotFound("answer", str(execution_id))
    return asked, run


def _is_broken(run: ModelRun) -> str | None:
    if run.finish_reason == LENGTH:
        return "cut off by max_tokens"
    return None if run.completion.strip() else "empty"


def _question(asked: Execution) -> str:
    question: str = asked.kwargs["messages"][-1]["content"]
    return question.strip()


def _text(asked: Execution, run: ModelRun) -> str:
    return f"Asked: {_question(asked)}\nAnswered by {run.model}: {run.completion.strip()}"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
