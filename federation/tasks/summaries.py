"""Summaries as executions: a node extracts what matters from what is in no summary yet."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from celery import shared_task

from federation.delivery.task import FederationTask
from federation.engines import catalogue
from federation.services import agents, summaries, summary_levels
from federation.tasks import abstracts
from federation.tasks.abstracts import Summarised

MAX_SENTENCES = 5
NOTHING_PUBLIC = "Nothing was said to all."


def extract(said: Sequence[summaries.Said]) -> Summarised:
    """Return the most telling sentences with their speakers."""
    engine = catalogue.embedding(summaries.ENGINE)
    from federation.engines import extractive  # noqa: PLC0415 - computes with numpy, which a node without models has not

    picked = extractive.summarise(
        [each.content for each in said], lambda texts: engine.embed(texts, truncate_at=engine.window), max_sentences=MAX_SENTENCES
    )
    sources = dict.fromkeys(str(identity) for sentence in picked for identity in said[sentence.message_index].message_ids)
    lines = [f"{speaker}: {each.sentence}" if (speaker := said[each.message_index].sender) else each.sentence for each in picked]
    return Summarised("\n".join(lines) or NOTHING_PUBLIC, "extractive", list(sources), engine.name, engine.digest())


# Each node that it goes to takes one of its tries.
@shared_task(bind=True, base=FederationTask, name=summaries.SUMMARISE, max_retries=FederationTask.max_retries * 2)
def summarise(self: FederationTask, *, conversation_id: str, to_position: int, former: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Summarise what of a conversation up to a position is in no summary, then summaries; what others summarise meanwhile is left to them."""
    texts: list[str] = []
    while True:
        with self.transaction() as session:
            window = summaries.rest(session, conversation_id, upto=to_position) or summary_levels.due(session, conversation_id)
            names = agents.names(session)
        if window is None:
            return {"conversation_id": conversation_id, "to_position": to_position, "texts": texts}
        summarised = abstracts.rewritten(self, window.messages, extract(window.messages), names=names, former=former)
        row = {"conversation_id": conversation_id, "level": window.level, "from_position": window.start, "to_position": window.end}
        with self.transaction() as session:
            if summaries.record(session, row | asdict(summarised)):
                texts.append(summarised.text)
