"""Summaries that a model writes, where the node's file names one that may: taken only if each name and number in them was said."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from federation.charter import charter
from federation.delivery import elsewhere, models
from federation.delivery.task import FederationTask
from federation.engines.contracts import Asked, ChatMessage, Completion, Halt, nobody
from federation.engines.grounding import unsupported
from federation.engines.routing import NoAnswer
from federation.errors import AnswerMisfits, ContextLengthError, EngineUnavailable, InvalidInput, ModelUnavailable
from federation.placement.model_server import SUMMARISES
from federation.placement.node_file import node_file
from federation.services.summaries import Said

MAX_TOKENS = 256
PROMPT = (
    "You summarise what a team said, for members who were away. Say in at most five sentences what was found, what was decided and what is open. "
    "Write names, numbers and files exactly as they stand there, and nothing that does not stand there."
)
# Of what was invented, the first few say enough.
_NAMED = 10
_LONGEST_REASON = 1_000


@dataclass(frozen=True, slots=True)
class Summarised:
    """A summary, how it was made, and the messages that it comes from; `rejected` says why what a model wrote was not taken."""

    text: str
    method: str
    message_ids: list[str]
    model: str
    model_digest: str
    rejected: str | None = None


def rewritten(
    task: FederationTask, said: Sequence[Said], extracted: Summarised, *, names: Collection[str], former: Mapping[str, Any] | None = None
) -> Summarised:
    """Return what a model of this node made of it, else what was extracted, with the reason; where no model may, what was extracted.

    The model of the node's role is asked where it may write summaries, else those that may. Where none answers now another node that has one goes on
    at once; `former` is what became of it on those before. `names` are those of all agents, which count as names wherever they stand.

    Raises Cancelled, and Halted, where nobody wants it any more; celery's Retry where it goes on elsewhere.
    """
    router = models.router(task.node).that_summarise()
    if router is None or not extracted.message_ids:
        return extracted
    source = "\n".join(f"{each.sender}: {each.content}" if each.sender else each.content for each in said)
    asked = Asked([ChatMessage("system", PROMPT), ChatMessage("user", source)], max_tokens=MAX_TOKENS)
    halt = Halt()
    of_role = charter().model(node_file(task.node).role)
    model = of_role if of_role is not None and router.has(of_role) else None
    before = dict(former["failed"]) if former and former["retries"] == task.request.retries else {}
    try:
        with task.ended_by(halt.set):
            routed = router.ask(asked, model=model, hear_of=lambda _: nobody, halt=halt, check=partial(_check, source=source, names=names))
    except NoAnswer as error:
        failed = {**before, task.node: str(error)}
        moved = {"former": {"retries": task.request.retries + 1, "failed": failed}}
        elsewhere.hand_over(task, error, tried=failed, changed=moved, tags=[SUMMARISES])
        story = "; ".join(f"{node}: {why}" for node, why in failed.items()) if before else str(error)
        return replace(extracted, rejected=story[:_LONGEST_REASON])
    except (AnswerMisfits, ContextLengthError, EngineUnavailable, InvalidInput, ModelUnavailable) as error:
        return replace(extracted, rejected=str(error)[:_LONGEST_REASON])
    return Summarised(routed.completion.text.strip(), "abstractive", extracted.message_ids, routed.source.model, routed.digest or "")


def _check(completion: Completion, *, source: str, names: Collection[str]) -> None:
    """Pass if this can stand for the source. Raises AnswerMisfits."""
    text = completion.text.strip()
    if not text:
        raise AnswerMisfits("the model wrote nothing")
    if completion.finish_reason == "length":
        raise AnswerMisfits(f"the model wrote more than {MAX_TOKENS} tokens")
    if len(text) >= len(source):
        raise AnswerMisfits("what the model wrote is no shorter than what was said")
    if invented := unsupported(text, source, names=names):
        raise AnswerMisfits(f"the model named what was not said: {', '.join(invented[:_NAMED])}")
