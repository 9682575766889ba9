"""Tools to remember, to recall and to forget."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from federation.errors import InvalidInput
from federation.mcp.door import Call
from federation.mcp.tools.arguments import LONGEST_LINE, NUMBER, Moment, name, text
from federation.mcp.waits import ExecutionFailed, value_of
from federation.services import answers, episodes, graph, memories, profiles, relations
from federation.services.episodes import Episode
from federation.services.graph import MOST_HOPS, Path
from federation.services.memories import LONGEST, MOST_SUBJECTS, Ranked, Recalled, Remembered
from federation.services.profiles import Profile
from federation.services.relations import Relation
from federation.services.resources import LONGEST as LONGEST_RESOURCE
from federation.store.models.cop import Visibility

# After that, what the words alone have found is the answer.
RANKED_WITHIN_S = 30.0

About = Annotated[
    list[Annotated[str, name("A subject.")]] | None,
    Field(max_length=MOST_SUBJECTS, description="Subjects, as names that you choose.", examples=[["auth", "deploy"]]),
]


class Kind(StrEnum):
    """What is recalled."""

    MEMORIES = "memories"
    EPISODIC = "episodic"
    RELATIONAL = "relational"
    GRAPH = "graph"
    PROFILE = "profile"


@dataclass(frozen=True, slots=True)
class Memories:
    """What is recalled."""

    memories: Annotated[Sequence[Recalled], Field(description="Best first; without a query the latest first.")]
    note: Annotated[str | None, Field(description="Why it was looked for by words alone; null: by words and meaning, or without a query.")] = None
    before: Annotated[datetime | None, Field(description="Without a query: pass it on to read what is older; null: there is nothing.")] = None
    episodes: Annotated[Sequence[Episode], Field(description="What happened, the latest first.")] = ()
    relations: Annotated[Sequence[Relation], Field(description="Who works with whom, the latest first.")] = ()
    profiles: Annotated[Sequence[Profile], Field(description="What is known of agents.")] = ()
    paths: Annotated[Sequence[Path], Field(description="How messages and findings relate things, the nearest first.")] = ()


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
    answer: Annotated[
        UUID | None, Field(description="execution_id of a federation_infer of yours: its question and its whole answer are kept below `content`.")
    ] = None,
) -> Remembered:
    """Keep something for later, for yourself alone unless you say for whom; found again by federation_recall."""

    def keep(session: Session) -> Remembered:
        said = content if answer is None else f"{content}\n\n{answers.pair(session, answer)}"
        return memories.remember(session, said, visibility=visibility, conversation_id=conversation_id, about=about or (), message_id=message_id)

    return await call.transact(keep)


async def federation_recall(
    call: Call,
    *,
    query: Annotated[
        str | None, text("A question or words. Omitted: what was remembered last.", longest=LONGEST_LINE, examples=["how do we deploy"])
    ] = None,
    kind: Annotated[
        Kind,
        Field(
            description="memories: what was remembered. episodic: what happened, from the log: what you did, or what happened to what `about` names. "
            "relational: with whom you, or the agents in `about`, worked, how often and on what. "
            "graph: what messages and findings relate to `about`. "
            "profile: how the work of the agents in `about`, or yours, came out, and what weight in a vote that makes."
        ),
    ] = Kind.MEMORIES,
    about: Annotated[
        list[Annotated[str, text("A subject.", longest=LONGEST_RESOURCE)]] | None,
        Field(
            max_length=MOST_SUBJECTS,
            description="Subjects of memories. Of what happened: an agent, a conversation, a task, a vote, a session or a resource. Of the graph: "
            "whatever has a name, with its kind or without.",
            examples=[["auth", "deploy"], ["file:src/main.py"], ["host:10.0.0.7"]],
        ),
    ] = None,
    limit: Annotated[int, Field(ge=1, le=50, description="At most so many."), NUMBER] = 5,
    before: Annotated[Moment | None, Field(description="Without a query: only what was before that.")] = None,
    since: Annotated[
        Moment | None, Field(description="Of what happened: only since then; omitted: 30 days.", examples=["2030-01-31T00:00:00+01:00"])
    ] = None,
    hops: Annotated[int | None, Field(ge=1, le=MOST_HOPS, description="Of the graph: so many relations away; omitted: 2."), NUMBER] = None,
) -> Memories:
    """Find what you remembered, and what others did for you to know, by words and by meaning; or what happened, who works with whom, and what is
    said of things.
    """
    if hops is not None and kind is not Kind.GRAPH:
        raise InvalidInput("hops", hops, "kind='graph' beside it")
    if kind in (Kind.GRAPH, Kind.PROFILE):
        for field, value in {"query": query, "before": before, "since": since}.items():
            if value is not None:
                raise InvalidInput(field, "a value", f"none beside kind='{kind}'")
    if kind is Kind.GRAPH:
        return await _walked(call, about, hops or 2, limit=limit)
    if kind is Kind.PROFILE:
        return Memories([], profiles=await call.transact(lambda session: profiles.of(session, about or ())))
    if kind is not Kind.MEMORIES:
        return await _derived(call, kind, query, about or (), since=since, before=before, limit=limit)
    if since is not None:
        raise InvalidInput("since", since.isoformat(), "kind='episodic' or kind='relational' beside it; memories are asked for by `before`")
    if query is None:
        page = await call.transact(lambda session: memories.latest(session, about=about or (), before=before, limit=limit))
        return Memories(page.memories, before=page.before)
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

    return Memories(await call.transact(read), note)


async def _derived(
    call: Call, kind: Kind, query: str | None, about: Sequence[str], *, since: datetime | None, before: datetime | None, limit: int
) -> Memories:
    """Answer from what happened."""
    if query is not None:
        raise InvalidInput("query", f"{len(query)} characters", f"no query beside kind='{kind}': name what it is about")
    if kind is Kind.EPISODIC:
        past = await call.transact(lambda session: episodes.recall(session, about=about, since=since, before=before, limit=limit))
        return Memories([], before=past.before, episodes=past.episodes)
    if before is not None:
        raise InvalidInput("before", before.isoformat(), "none beside kind='relational': it counts up to now")
    return Memories([], relations=await call.transact(lambda session: relations.of(session, about, since=since, limit=limit)))


async def _walked(call: Call, about: Sequence[str] | None, hops: int, *, limit: int) -> Memories:
    """Answer from the graph."""
    if not about:
        raise InvalidInput("about", None, "beside kind='graph' what to begin with, such as host:10.0.0.7")
    return Memories([], paths=await call.transact(lambda session: graph.walk(session, about, hops=hops, limit=limit)))


async def federation_forget(
    call: Call,
    memory_id: Annotated[UUID, Field(description="Of federation_recall.", examples=["0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a11"])],
) -> Forgotten:
    """Remove a memory of yours: its text is gone for good, and the log keeps only that there was one."""
    await call.transact(lambda session: memories.forget(session, memory_id))
    return Forgotten(memory_id)
