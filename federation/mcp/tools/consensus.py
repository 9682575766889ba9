"""Tools to put something to the vote, to acknowledge what is voted on, to vote, and to read what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from federation.consensus.ballots import ABSTAIN, Base
from federation.consensus.proposal import LONGEST_OPTION, MOST_OPTIONS, MOST_VOTERS
from federation.errors import InvalidInput
from federation.mcp.door import Call
from federation.mcp.tools.arguments import LONGEST_LINE, NUMBER, ConversationId, StatementSignature, StatementText, name, text
from federation.security.statements import Mode, presented
from federation.services import consensus, consensus_results, decisions, votes
from federation.services.consensus_results import Results
from federation.services.electorates import DEFAULT_S, LONGEST_S, Asked
from federation.store.models.consensus import Consensus, ConsensusState

ConsensusReference = Annotated[str, name("The vote: its UUID, or the name that its author chose as consensus_id.", examples=["auth-decision"])]
InConversation = Annotated[
    str | None, name("The vote's conversation; needed only where its name stands in several of yours.", examples=["project-123"])
]
# `vote` is what the whitepaper calls those that ask for a share.
Mechanism = Literal["poll", "majority", "supermajority", "unanimous", "threshold", "approval", "ranked", "vote"]
Option = Annotated[str, Field(min_length=1, max_length=LONGEST_OPTION, pattern=r"\S", description="An option.")]


def _share(value: Any) -> Any:
    # Before the union, which would tell of each of its members why it does not fit.
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    if value is None or is_number or value in ("majority", "unanimous", "threshold"):
        return value
    raise PydanticCustomError("no_share", "a share")


@dataclass(frozen=True, slots=True)
class Requested:
    """The vote as it was recorded; its voters have been told."""

    consensus_id: UUID
    slug: Annotated[str | None, Field(description="The name that you chose for it as consensus_id.")]
    conversation_id: str
    options: list[str]
    options_hash: str
    revision: int
    voters: list[str]
    quorum: Annotated[int, Field(description="So many voters must take part.")]
    deadline: datetime
    state: ConsensusState


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """That you have the proposal in hand."""

    consensus_id: UUID
    revision: int
    acknowledged: Annotated[int, Field(description="So many voters have acknowledged it by now.")]
    voters: int


@dataclass(frozen=True, slots=True)
class Voted:
    """Your ballot as it counts."""

    consensus_id: UUID
    revision: int
    response: Annotated[list[str], Field(description="Empty: an abstention.")]
    mode: Annotated[Mode | None, Field(description="signed by your own key, or attested by the front door.")]
    state: ConsensusState
    winner: Annotated[str | None, Field(description="Null: none, or not yet.")]


async def federation_consensus_request(
    call: Call,
    question: Annotated[str, text("What is to be decided.", longest=LONGEST_LINE, examples=["Which auth approach?"])],
    options: Annotated[
        list[Option] | None,
        Field(max_length=MOST_OPTIONS, description="What one may vote for; omitted: yes, no.", examples=[["OAuth2", "JWT", "Custom"]]),
    ] = None,
    mechanism: Annotated[
        Mechanism,
        Field(
            description="poll: most votes. majority: more than half. supermajority: two thirds. unanimous. threshold: the share `threshold`. "
            "approval: name all that are fine. ranked: rank them. vote: threshold if `threshold` is given, else majority."
        ),
    ] = "majority",
    *,
    voters: Annotated[
        list[Annotated[str, name("An agent.")]] | None,
        Field(
            max_length=MOST_VOTERS, description="Who may vote; they become members. Omitted: all members whose role may.", examples=[["ada", "bob"]]
        ),
    ] = None,
    weights: Annotated[
        dict[str, Annotated[float, Field(gt=0, le=1_000), NUMBER]] | None,
        Field(description="Weights of voters by name, for expertise; 1 if not named.", examples=[{"ada": 2.5}]),
    ] = None,
    quorum: Annotated[
        Literal["majority", "unanimous", "threshold"] | Annotated[float, Field(ge=0, le=1)] | None,
        Field(description="Which share of the voters must take part; omitted: majority."),
        BeforeValidator(_share),
    ] = None,
    threshold: Annotated[float | None, Field(gt=0, le=1, description="For mechanism or quorum threshold.", examples=[0.7]), NUMBER] = None,
    base: Annotated[
        Base | None, Field(description="Shares are of the votes cast, or of the electorate (n/2+1). Omitted: cast; with task_id electorate.")
    ] = None,
    timeout_s: Annotated[float, Field(ge=1, le=LONGEST_S, description="Seconds until it ends."), NUMBER] = DEFAULT_S,
    shown: Annotated[bool, Field(description="Everybody sees votes before the end.")] = False,
    early: Annotated[bool, Field(description="It ends as soon as nothing can change the outcome.")] = True,
    signed: Annotated[bool, Field(description="Only ballots signed by the voter's own key count.")] = False,
    task_id: Annotated[
        str | None,
        name("A task that awaits approval, if you may decide on it: the outcome lets it begin or rejects it.", examples=["restart-cache"]),
    ] = None,
    conversation_id: ConversationId = None,
    consensus_id: Annotated[str | None, name("A name that you choose; the same call again is the same vote.", examples=["auth-decision"])] = None,
    replace: Annotated[bool, Field(description="Change question and options of your open vote consensus_id: all acknowledge and vote anew.")] = False,
) -> Requested:
    """Put something to the vote. Voters are told, acknowledge what is voted on, and vote once; it ends by itself.

    Wait for the outcome with federation_consensus_results(consensus_id, wait_s=300).
    """
    if mechanism == "vote":
        mechanism = "majority" if threshold is None else "threshold"
    asked = Asked(
        question=question,
        options=options,
        mechanism=mechanism,
        voters=voters,
        weights=weights,
        quorum=quorum,
        threshold=threshold,
        base=base,
        timeout_s=timeout_s,
        shown=shown,
        early=early,
        signed=signed,
        task=task_id,
        conversation_id=conversation_id,
    )

    def work(session: Session) -> Consensus:
        if replace:
            return _replaced(session, asked, consensus_id)
        return consensus.request(session, asked, slug=consensus_id)

    vote = await call.transact(work)
    about = vote.proposal
    return Requested(
        consensus_id=vote.id,
        slug=vote.slug,
        conversation_id=vote.conversation_id,
        options=about["options"],
        options_hash=vote.options_hash,
        revision=vote.revision,
        voters=[one["agent"] for one in about["electorate"]],
        quorum=about["quorum"],
        deadline=vote.deadline,
        state=ConsensusState(vote.state),
    )


def _replaced(session: Session, asked: Asked, consensus_id: str | None) -> Consensus:
    if consensus_id is None:
        raise InvalidInput("consensus_id", None, "the vote that is changed, where replace is true")
    plain = Asked(question=asked.question, options=asked.options, conversation_id=asked.conversation_id)
    if asked != plain:
        [first, *_] = [each for each in Asked.__dataclass_fields__ if getattr(asked, each) != getattr(plain, each)]
        raise InvalidInput(first, getattr(asked, first), "nothing, where replace is true: only question and options change")
    return consensus.replace(session, consensus_id, asked.question, asked.options, conversation_id=asked.conversation_id)


async def federation_consensus_acknowledge(
    call: Call,
    consensus_id: ConsensusReference,
    options_hash: Annotated[
        str, Field(pattern=r"^[0-9a-f]{64}$", description="The options_hash that came with what you have read.", examples=["9f2c" * 16])
    ],
    conversation_id: InConversation = None,
) -> Acknowledged:
    """Say that you have read exactly what is voted on; only then your ballot is taken. Changed options need another acknowledgement."""

    def work(session: Session) -> Acknowledged:
        done = consensus.acknowledge(session, consensus_id, options_hash, conversation_id=conversation_id)
        return Acknowledged(done.vote.id, done.vote.revision, done.acknowledged, done.voters)

    return await call.transact(work)


async def federation_consensus_respond(
    call: Call,
    consensus_id: ConsensusReference,
    response: Annotated[str | None, text(f"The option that you are for, or '{ABSTAIN}'.", longest=LONGEST_OPTION, examples=["OAuth2"])] = None,
    *,
    choices: Annotated[
        list[Option] | None,
        Field(
            max_length=MOST_OPTIONS, description="For approval and ranked: all options that you are for, best first.", examples=[["JWT", "OAuth2"]]
        ),
    ] = None,
    confidence: Annotated[float | None, Field(ge=0, le=1, description="How sure you are."), NUMBER] = None,
    reason: Annotated[str, Field(max_length=LONGEST_LINE, description="Why.", examples=["Error rate 5x baseline"])] = "",
    conversation_id: InConversation = None,
    statement: StatementText = None,
    signature: StatementSignature = None,
) -> Voted:
    """Vote, once and for good, after federation_consensus_acknowledge. The same call again is the same ballot; another one is refused."""

    voice = presented(statement, signature)
    if response is not None and choices is not None:
        raise InvalidInput("choices", choices, "nothing beside response")
    named: Sequence[str] | None = choices if response is None else [response]

    def work(session: Session) -> votes.Cast:
        return votes.respond(session, consensus_id, named, confidence=confidence, reason=reason, conversation_id=conversation_id)

    # Counted by the program, which sees what others voted.
    cast, vote = await call.transact_then(
        work,
        lambda session, cast: decisions.still_open(session, cast.vote.id),
        lambda session, cast: decisions.end(session, cast.vote.id),
        voice=voice,
    )
    winner: Any = (vote.outcome or {}).get("winner")
    return Voted(vote.id, cast.ballot.revision, cast.ballot.response, cast.mode, ConsensusState(vote.state), winner)


async def federation_consensus_results(
    call: Call,
    consensus_id: ConsensusReference,
    wait_s: Annotated[float, Field(ge=0, le=600, description="Seconds to wait for the end, up to 600; 0 looks once."), NUMBER] = 0,
    ballots: Annotated[bool, Field(description="With what each voter voted, and why, as far as it is shown.")] = False,
    conversation_id: InConversation = None,
) -> Results:
    """Read what is voted on and how it stands: winner, votes, who has acknowledged and voted. Until the end votes are hidden, unless shown."""

    def look(session: Session) -> Results:
        return consensus_results.results(session, consensus.find(session, consensus_id, conversation_id=conversation_id), with_ballots=ballots)

    found = await call.transact(look)
    if wait_s <= 0 or found.state is not ConsensusState.OPEN:
        return found

    def ended(session: Session) -> Results | None:
        now = look(session)
        return None if now.state is ConsensusState.OPEN else now

    notices = [f"consensus:{found.consensus_id}"]
    outcome = await call.until(ended, wait_s=wait_s, notices=notices, waiting=f"vote {consensus_id} is open")
    return outcome if outcome is not None else await call.transact(look)
