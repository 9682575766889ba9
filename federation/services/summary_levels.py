"""Summaries of summaries, so that a long conversation is read in few: so many of one level that follow on each other are one of the next."""

import uuid
from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.errors import InvalidInput, NotFound
from federation.services import conversations, summaries
from federation.services.summaries import Said, SummaryView, Window
from federation.store.models.conversations import Message
from federation.store.models.summaries import Summary

# So many are summarised as one. Which ones follows from their order alone, so whoever summarises them summarises the same.
PARTS = 8
# What the beginning of a long sentence ends with.
_CUT = "…"


def due(session: Session, conversation_id: str) -> Window | None:
    """Return summaries that are to be one of the next level, of the lowest level that has so many; None if none has."""
    of_it = Summary.conversation_id == conversation_id
    for level in session.scalars(select(Summary.level).where(of_it).distinct().order_by(Summary.level)).all():
        upto = summaries.covered(session, conversation_id, level=level + 1)
        query = select(Summary).where(of_it, Summary.level == level, Summary.from_position > upto).order_by(Summary.from_position).limit(PARTS)
        parts = session.scalars(query).all()
        if len(parts) == PARTS:
            said = [each for part in parts for each in _lines(session, part)]
            return Window(parts[0].from_position, parts[-1].to_position, said, level + 1)
    return None


def _lines(session: Session, part: Summary) -> Iterator[Said]:
    """Yield the sentences of a summary, each with the message that it was taken from."""
    ids = [uuid.UUID(each) for each in part.message_ids]
    named = session.execute(select(Message.id, Message.sender, Message.content).where(Message.id.in_(ids)).order_by(Message.position)).all()
    for line in part.text.splitlines() if named else ():
        sender, _, sentence = line.partition(": ")
        said = next((row for row in named if row.sender == sender and sentence.removesuffix(_CUT) in row.content), None)
        yield Said(ids, "", line) if said is None else Said([said.id], sender, sentence)


def parts(session: Session, conversation_id: str, summary_id: uuid.UUID) -> Sequence[SummaryView]:
    """Return the summaries that a summary was made of, oldest first.

    Raises NotFound, Refused for a stranger, InvalidInput for one that was made of messages.
    """
    conversations.require_member(session, conversation_id)
    whole = session.get(Summary, summary_id)
    if whole is None or whole.conversation_id != conversation_id:
        raise NotFound("summary", str(summary_id))
    if whole.level == 1:
        wants = f"one of level 2 or more; that one is of messages: federation_history(after={whole.from_position - 1})"
        raise InvalidInput("part_of", str(summary_id), wants)
    within = Summary.from_position.between(whole.from_position, whole.to_position)
    query = select(Summary).where(Summary.conversation_id == conversation_id, Summary.level == whole.level - 1, within)
    return [summaries.view(row) for row in session.scalars(query.order_by(Summary.from_position))]
