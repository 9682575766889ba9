"""Tools of a session: several look into one thing, share what they find, decide on what is to be done, and do it."""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, NotRequired
from uuid import UUID

from pydantic import ConfigDict, Field
from sqlalchemy.orm import Session
from typing_extensions import TypedDict  # pydantic refuses that of Python 3.11

from federation.errors import InvalidInput, PermanentError
from federation.mcp.door import Call
from federation.mcp.tools.arguments import LONGEST_LINE, NUMBER, FencingToken, TtlS, name, text
from federation.services import board, consensus, decisions, findings, session_actions, sessions, task_claims
from federation.services.board import Board, FindingView, HypothesisView
from federation.services.claims import ClaimOutcome
from federation.services.electorates import DEFAULT_S, LONGEST_S
from federation.services.findings import Said
from federation.services.session_actions import ActionView, Proposed
from federation.services.sessions import LARGEST_WEIGHT, MOST_VOTERS, Start
from federation.store.models.consensus import Consensus, ConsensusState
from federation.store.models.sessions import AgentFinding, AgentSession, Category, SessionStatus
from federation.store.models.tasks import AgentTask, TaskStatus

SessionReference = Annotated[str, name("The session: its UUID, or the name that who began it chose.", examples=["INC-1234"])]
ActionReference = Annotated[str, name("The action: its UUID, or the name that its author chose as action_id.", examples=["rollback"])]
InConversation = Annotated[
    str | None, name("The session's conversation; needed only where its name stands in several of yours.", examples=["project-123"])
]


class Evidence(TypedDict):
    """What a finding rests on."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic reads it

    source: Annotated[str, Field(min_length=1, max_length=LONGEST_LINE, pattern=r"\S", description="What was asked.")]
    query: NotRequired[Annotated[str, Field(min_length=1, pattern=r"\S", description="What it was asked.")]]
    result: NotRequired[Annotated[Any, Field(description="What it said.")]]


@dataclass(frozen=True, slots=True)
class Shared:
    """A finding that all who take part may read."""

    finding_id: UUID
    position: int
    duplicates: Annotated[list[findings.Duplicate], Field(description="Queries of yours that others had run before, and what came of them then.")]
    session: SessionStatus


@dataclass(frozen=True, slots=True)
class Findings:
    """What is new in a session, and how it stands."""

    findings: list[FindingView]
    cursor: Annotated[int, Field(description="Pass it as `after` to the next call.")]
    more: Annotated[bool, Field(description="There is more behind the cursor: call again.")]
    hypotheses: Annotated[list[HypothesisView] | None, Field(description="The likeliest first; null: you asked for some findings only.")]
    actions: Annotated[list[ActionView] | None, Field(description="The latest, oldest first; null as above.")]
    status: SessionStatus
    outcome: dict[str, Any] | None
    claim: Annotated[
        str | None, Field(description="Of a query: the resource to claim with federation_claim before you run it; posting gives it back.")
    ]


@dataclass(frozen=True, slots=True)
class Taken:
    """The action that you hold, or why you hold none."""

    claimed: bool
    action_id: UUID | None
    slug: str | None
    description: str | None
    parameters: dict[str, Any] | None
    fencing_token: Annotated[int | None, Field(description="Yours: swarm_complete_task asks for it.")]
    holder: str | None
    expires_at: Annotated[datetime | None, Field(description="When the claim lapses; claim again before to extend it.")]
    note: Annotated[str | None, Field(description="What to do next.")]


@dataclass(frozen=True, slots=True)
class Done:
    """The action as it ended."""

    action_id: UUID
    status: TaskStatus
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class VotedOn:
    """Your ballot as it counts, and how the vote stands."""

    action_id: UUID
    consensus_id: UUID
    vote: Literal["yes", "no", "abstain"]
    state: ConsensusState
    decision: Annotated[Literal["execute", "reject"] | None, Field(description="Null: still open.")]
    votes_for: Annotated[int | float | None, Field(description="Null: hidden until the end.")]
    votes_against: int | float | None
    abstentions: int | None


async def swarm_join_session(
    call: Call,
    session_id: SessionReference,
    *,
    context: Annotated[
        dict[str, Any] | None,
        Field(description="What it is about: begins a session of this name if there is none, or adds to what is known.", examples=[{"task": "x"}]),
    ] = None,
    focus: Annotated[str | None, Field(max_length=LONGEST_LINE, description="What you look into.", examples=["recent deployments"])] = None,
    voters: Annotated[
        list[Annotated[str, name("An agent.")]] | None,
        Field(
            max_length=MOST_VOTERS,
            description="Of a new one, from who may approve: who votes on proposed actions. Omitted: each awaits approval.",
            examples=[["ada", "bob"]],
        ),
    ] = None,
    expertise: Annotated[
        dict[str, Annotated[float, Field(gt=0, le=LARGEST_WEIGHT), NUMBER]] | None,
        Field(description="Of a new one: how much the findings of an agent, or agent:category, weigh; else 1.", examples=[{"ada:conclusion": 2}]),
    ] = None,
    conversation_id: Annotated[str | None, name("Its members see the session; omitted: everybody does.", examples=["project-123"])] = None,
) -> Board:
    """Look into something together: join a session, or begin one with `context`, and see what is known. Needed before you post or propose."""

    def work(session: Session) -> Board:
        start = Start(context=context, voters=voters, expertise=expertise)
        return board.board(session, sessions.join(session, session_id, start, focus=focus, conversation_id=conversation_id))

    return await call.transact(work)


async def swarm_post_finding(
    call: Call,
    session_id: SessionReference,
    content: Annotated[str, text("What you found.", examples=["Errors began with deployment v1.2.3"])],
    category: Annotated[Category, Field(description="What it is.", examples=["observation"])],
    *,
    confidence: Annotated[float | None, Field(ge=0, le=1, description="How sure you are; a hypothesis needs it.", examples=[0.7]), NUMBER] = None,
    evidence: Annotated[
        list[Evidence] | None,
        Field(
            max_length=100,
            description="What it rests on: source, query, result.",
            examples=[[{"source": "prometheus", "query": "rate(errors[5m])", "result": "0.05"}]],
        ),
    ] = None,
    hypothesis_id: Annotated[UUID | None, Field(description="The hypothesis that it speaks for, or that it confirms or refutes.")] = None,
    validates: Annotated[bool | None, Field(description="Of a conclusion with evidence: it confirms (true) or refutes another's hypothesis.")] = None,
    completes: Annotated[bool, Field(description="It is the session's outcome, and ends it.")] = False,
    finding_id: Annotated[str | None, name("A name that you choose; the same call again posts it once.", examples=["errors-1"])] = None,
    conversation_id: InConversation = None,
) -> Shared:
    """Share what you found with all in the session. Before you run a query, ask swarm_get_findings whether somebody has."""
    said = Said(
        content=content,
        category=category,
        confidence=confidence,
        evidence=[dict(one) for one in evidence or ()],
        hypothesis_id=hypothesis_id,
        validates=validates,
    )

    def work(session: Session) -> Shared:
        done = findings.post(session, session_id, said, slug=finding_id, completes=completes, conversation_id=conversation_id)
        return Shared(done.finding.id, done.finding.position, list(done.duplicates), SessionStatus(done.session.status))

    return await call.transact(work)


async def swarm_get_findings(
    call: Call,
    session_id: SessionReference,
    *,
    after: Annotated[int, Field(ge=0, lt=2**63, description="The cursor of your former call."), NUMBER] = 0,
    wait_s: Annotated[float, Field(ge=0, le=600, description="Seconds to wait for something new, up to 600; 0 looks once."), NUMBER] = 0,
    category: Annotated[Category | None, Field(description="Only these.")] = None,
    hypothesis_id: Annotated[UUID | None, Field(description="Only this hypothesis and what is about it.")] = None,
    source: Annotated[str | None, text("With `query`: what it asks.", longest=LONGEST_LINE, examples=["prometheus"])] = None,
    query: Annotated[str | None, text("Only what came of this query.", examples=["rate(errors[5m])"])] = None,
    limit: Annotated[int, Field(ge=1, le=200, description="At most so many; fewer come where they are long."), NUMBER] = 50,
    conversation_id: InConversation = None,
) -> Findings:
    """Read what others found, oldest first, and how hypotheses and actions stand. With source and query: has somebody run it, and what came of it?"""
    if (source is None) != (query is None):
        missing, given = ("source", query) if source is None else ("query", source)
        raise InvalidInput(missing, None, f"a text too, beside {given!r}")
    asked = None if source is None or query is None else (source, query)
    everything = asked is None and category is None and hypothesis_id is None

    def page_of(session: Session, found: AgentSession, most: int) -> tuple[list[AgentFinding], bool]:
        return findings.page(session, found, after=after, category=category, hypothesis_id=hypothesis_id, query=asked, limit=most)

    def stands(session: Session, found: AgentSession) -> tuple[str, list[tuple[UUID, str]]]:
        return found.status, session_actions.standing(session, found) if everything else []

    def look(session: Session) -> Findings:
        found = sessions.find(session, session_id, conversation_id=conversation_id)
        page, more = page_of(session, found, limit)
        return Findings(
            findings=[board.finding_view(one) for one in page],
            cursor=page[-1].position if page else after,
            more=more,
            hypotheses=board.hypotheses(session, found) if everything else None,
            actions=list(session_actions.views(session, found)) if everything else None,
            status=SessionStatus(found.status),
            outcome=found.outcome,
            claim=findings.resource(found, *asked).name if asked is not None and not page else None,
        )

    def first_look(session: Session) -> tuple[UUID, tuple[str, list[tuple[UUID, str]]], Findings]:
        found = sessions.find(session, session_id, conversation_id=conversation_id)
        # Before all the rest, so that what changes meanwhile is news.
        return found.id, stands(session, found), look(session)

    located, before, first = await call.transact(first_look)
    if wait_s <= 0 or first.findings or first.status is SessionStatus.COMPLETED:
        return first

    def news(session: Session) -> Findings | None:
        found = sessions.find(session, str(located))
        return look(session) if stands(session, found) != before or page_of(session, found, 1)[0] else None

    found = await call.until(news, wait_s=wait_s, notices=[sessions.key(located)], waiting="waiting for a finding")
    return found if found is not None else await call.transact(look)


async def swarm_propose_action(
    call: Call,
    session_id: SessionReference,
    content: Annotated[str, text("What is to be done.", examples=["Roll back to v1.2.2"])],
    type: Annotated[Literal["query", "modify", "notify", "escalate"], Field(description="What kind of action it is.", examples=["modify"])],
    *,
    target: Annotated[str | None, text("What it is done to.", longest=LONGEST_LINE, examples=["deployment/web"])] = None,
    parameters: Annotated[dict[str, Any] | None, Field(description="Further inputs.", examples=[{"version": "v1.2.3"}])] = None,
    agent: Annotated[str | None, name("The one agent who shall do it. Omitted: whoever claims it.", examples=["bob"])] = None,
    requires_approval: Annotated[bool, Field(description="False: it may be claimed at once.")] = True,
    timeout_s: Annotated[
        float, Field(ge=1, le=LONGEST_S, description="Seconds until the vote on it ends, if not all have voted."), NUMBER
    ] = DEFAULT_S,
    early: Annotated[bool, Field(description="The vote ends as soon as nothing can change the outcome.")] = False,
    action_id: Annotated[str | None, name("A name that you choose; the same call again is the same action.", examples=["rollback"])] = None,
    conversation_id: InConversation = None,
) -> ActionView:
    """Propose what is to be done. The session's voters vote on it, more than half of them approve it; without voters it awaits approval.

    Approved, it is for who claims it with swarm_claim_task.
    """
    said = Proposed(
        content=content,
        type=type,
        target=target,
        parameters=parameters,
        agent=agent,
        requires_approval=requires_approval,
        timeout_s=timeout_s,
        early=early,
    )

    def work(session: Session) -> ActionView:
        task = session_actions.propose(session, session_id, said, slug=action_id, conversation_id=conversation_id)
        return session_actions.view(session, task)

    return await call.transact(work)


async def swarm_vote(
    call: Call,
    session_id: SessionReference,
    action_id: ActionReference,
    vote: Annotated[Literal["yes", "no", "abstain"], Field(description="Whether it shall be done.", examples=["yes"])],
    options_hash: Annotated[
        str, Field(pattern=r"^[0-9a-f]{64}$", description="Of the action's vote: that you have read what it is about.", examples=["9f2c" * 16])
    ],
    *,
    confidence: Annotated[float | None, Field(ge=0, le=1, description="How sure you are."), NUMBER] = None,
    reason: Annotated[str, Field(max_length=LONGEST_LINE, description="Why.", examples=["Error rate 5x baseline"])] = "",
    conversation_id: InConversation = None,
) -> VotedOn:
    """Vote on a proposed action, once and for good."""

    def work(session: Session) -> tuple[UUID, UUID]:
        cast = session_actions.vote(
            session,
            session_id,
            action_id,
            vote,
            options_hash=options_hash,
            confidence=confidence,
            reason=reason,
            conversation_id=conversation_id,
        )
        return cast.vote.id, cast.vote.task_id or cast.vote.id

    # Counted by the program, which sees what others voted.
    (consensus_id, task_id), ended = await call.transact_then(
        work, lambda session, on: decisions.still_open(session, on[0]), lambda session, on: decisions.end(session, on[0])
    )
    stands = await call.transact(lambda session: session_actions.vote_view(session, consensus.find(session, str(consensus_id))))
    return VotedOn(task_id, consensus_id, vote, stands.state, _decision(ended), stands.votes_for, stands.votes_against, stands.abstentions)


def _decision(ended: Consensus) -> Literal["execute", "reject"] | None:
    if ended.state not in {ConsensusState.DECIDED, ConsensusState.UNDECIDED}:
        return None
    return "execute" if (ended.outcome or {}).get("winner") == session_actions.RESPONSES["yes"] else "reject"


async def swarm_claim_task(
    call: Call,
    session_id: SessionReference,
    action_id: Annotated[str | None, name("The action. Omitted: the most urgent one that you may take.", examples=["rollback"])] = None,
    *,
    description: Annotated[str, Field(max_length=LONGEST_LINE, description="What you are about to do, for those who look on.")] = "",
    ttl_s: TtlS = None,
    conversation_id: InConversation = None,
) -> Taken:
    """Take an approved action, or the next one, before you do it. One agent wins."""
    lasting_s = call.settings.claim_ttl_s if ttl_s is None else ttl_s

    def candidates(session: Session) -> list[AgentTask]:
        if action_id is None:
            return session_actions.claimable(session, session_id, conversation_id=conversation_id)
        found = sessions.find(session, session_id, conversation_id=conversation_id)
        return [session_actions.action(session, found, action_id)]

    taken, refused = _NOTHING, None
    for task in await call.transact(candidates):
        try:
            taken = await call.transact(partial(_claim, task=task, description=description, ttl_s=lasting_s))
        except PermanentError as error:
            # Such as one that the caller's role may not begin, or that somebody has just completed.
            if action_id is not None:
                raise
            refused = f"{task.slug or task.id} is refused you: {error}"
            continue
        if taken.claimed:
            return taken
    return taken if refused is None else replace(taken, note=f"{taken.note}; {refused}")


_NOTHING = Taken(False, None, None, None, None, None, None, None, "nothing that you may take is open here; wait with swarm_get_findings(wait_s=60)")


def _claim(session: Session, task: AgentTask, description: str, ttl_s: float) -> Taken:
    outcome: ClaimOutcome = task_claims.claim(session, str(task.id), description=description, ttl_s=ttl_s, conversation_id=task.conversation_id)
    note = None if outcome.claimed else f"{outcome.holder or 'somebody before you'} has it; take another action"
    found = (task.id, task.slug, task.description, task.parameters)
    return Taken(outcome.claimed, *found, outcome.fencing_token, outcome.holder, outcome.expires_at, note)


async def swarm_complete_task(
    call: Call,
    session_id: SessionReference,
    action_id: ActionReference,
    *,
    fencing_token: FencingToken,
    result: Annotated[dict[str, Any], Field(description="What came of it.", examples=[{"error_rate": 0.01}])],
    success: Annotated[bool, Field(description="False if it cannot be done; say why in the result.")] = True,
    conversation_id: InConversation = None,
) -> Done:
    """Record what came of an action that you hold, for all in the session, and end it."""

    def work(session: Session) -> Done:
        found = sessions.find(session, session_id, conversation_id=conversation_id)
        task = session_actions.action(session, found, action_id)
        done = task_claims.complete(
            session, str(task.id), fencing_token=fencing_token, result=result, success=success, conversation_id=task.conversation_id
        )
        return Done(done.id, TaskStatus(done.status), done.completed_at)

    return await call.transact(work)
