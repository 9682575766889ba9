"""Tools to remember, to recall and to forget."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.mcp.door import Call
from federation.mcp.tools.arguments import LONGEST_LINE, NUMBER, Moment, name, text
from federation.mcp.waits import ExecutionFailed, value_of
from federation.services import memories
from federation.services.memories import LONGEST, MOST_SUBJECTS, Ranked, Recalled, Remembered
from federation.store.models.cop import Visibility

# After that, what the words alone have found is the answer.
RANKED_WITHIN_S = 30.0

About = Annotated[
    list[Annotated[str, name("A subject.")]] | None,
    Field(max_length=MOST_SUBJECTS, description="Subjects, as names that you choose.", examples=[["auth", "deploy"]]),
]


@dataclass(frozen=True, slots=True)
class Memories:
    """What is recalled."""

    memories: Annotated[Sequence[Recalled], Field(description="Best first; without a query the latest first.")]
    note: Annotated[str | None, Field(description="Why it was looked for by words alone; null: by words and meaning, or without a query.")]
    before: Annotated[datetime | None, Field(description="Without a query: pass it on to read those that are older; null: there are none.")]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is there no more."""

    memory_id: UUID


async def federation_remember(
    call: Call,
    *,
    content: Annotated[str, text("One thing to know later, in a sentence or a few.", longest=LONGEST, examples=["Deploys need the VPN."])],
    visibility: Annotated[
        Visibility | None,
        Field(description="Who may recall it: nobody (but you), which is the default; members (of conversation_id); role (agents of yours); all."),
    ] = None,
    conversation_id: Annotated[
        str | None, name("Its members may recall it: a conversation of yours, but not commons.", examples=["project-123"])
    ] = None,
    about: About = None,
    message_id: Annotated[UUID | None, Field(description="The message that you learnt it from.")] = None,
) -> Remembered:
    """Keep something for later, for yourself alone unless you say for whom; found again by federation_recall."""
    return await call.transact(
        lambda session: memories.remember(
            session, content, visibility=visibility, conversation_id=conversation_id, about=about or (), message_id=message_id
        )
    )


async def federation_recall(
    call: Call,
    *,
    query: Annotated[
        str | None, text("A question or words. Omitted: what was remembered last.", longest=LONGEST_LINE, examples=["how do we deploy"])
    ] = None,
    about: About = None,
    limit: Annotated[int, Field(ge=1, le=50, description="At most so many memories."), NUMBER] = 5,
    before: Annotated[Moment | None, Field(description="Without a query: only what was remembered before that.")] = None,
) -> Memories:
    """Find what you remembered, and what others did for you to know, by words and by meaning."""
    if query is None:
        page = await call.transact(lambda session: memories.latest(session, about=about or (), before=before, limit=limit))
        return Memories(page.memories, None, page.before)
    if before is not None:
        raise InvalidInput("before", before.isoformat(), "no query beside it")
    question = query
    asked = await call.transact(lambda session: memories.request_ranking(session, question, about=about or (), limit=limit))
    try:
        ranked, stands = await value_of(call, asked, wait_s=RANKED_WITHIN_S, waiting="recalling")
        note = None if ranked is not None else f"by words alone, because the node of the vectors is late: {stands.waiting_for or stands.state}"
    except ExecutionFailed as error:
        ranked, note = None, f"by words alone: {error}"

    def read(session: Session) -> list[Recalled]:
        if ranked is None:
            found = memories.by_words(session, question, about=about or (), limit=limit)
        else:
            found = [Ranked(UUID(each["id"]), each["score"], each["matched_by"]) for each in ranked]
        return memories.show(session, found)[:limit]

    return Memories(await call.transact(read), note, None)


async def federation_forget(
    call: Call,
    memory_id: Annotated[UUID, Field(description="Of federation_recall.", examples=["0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a11"])],
) -> Forgotten:
    """Remove a memory of yours: its text is gone for good, and the log keeps only that there was one."""
    await call.transact(lambda session: memories.forget(session, memory_id))
    return Forgotten(memory_id)
