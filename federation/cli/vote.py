"""`federation vote`: shows an agent what is voted on, acknowledges it by its hash, and votes under a signature of the agent's own."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy.orm import Session

from federation.cli.as_agent import transact_as_agent
from federation.cli.consensus import AsJson, InConversation, as_told, print_vote
from federation.cli.console import console, inert, print_json
from federation.cli.elsewhere import As, Authority, Url, ask, front_door, understood
from federation.cli.operator import transact
from federation.errors import InvalidInput, PermanentError
from federation.security.statements import canonical, content_sha256
from federation.services import consensus, consensus_results, decisions, votes

if TYPE_CHECKING:
    from federation.stub.door import FrontDoor

# So much of a hash that nobody hits upon it.
_SHORTEST_HASH = 8
# Of what is shown over --url, these stand in what is hashed as well.
_HASHED = ("consensus_id", "conversation_id", "revision", "question", "options", "mechanism", "quorum")
Acknowledge = Annotated[
    str | None,
    typer.Option("--acknowledge", metavar="HASH", help="The options' hash, or 8 digits of it or more, with --url all: you have read these."),
]


def vote(
    reference: Annotated[str, typer.Argument(metavar="ID", help="Id or name of the vote.")],
    response: Annotated[
        list[str] | None,
        typer.Argument(metavar="OPTION", help="What you vote for; several for approval and ranked, best first; abstain."),
    ] = None,
    *,
    acknowledge: Acknowledge = None,
    confidence: Annotated[float | None, typer.Option(min=0, max=1, help="How sure you are, 0 to 1.")] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    conversation: InConversation = None,
    url: Url = None,
    authority: Authority = None,
    agent: As = None,
    as_json: AsJson = False,
) -> None:
    """Vote as the agent whose token FEDERATION_TOKEN is, and sign the ballot with the key of this machine.

    Without an option it shows what is voted on, and its hash.
    """
    if url is not None:
        door = front_door(url, authority, agent)
        with understood(door):
            if not response:
                print_vote(_results(door, reference, conversation), as_json=as_json)
                return
            ballot = {"choices": response, "confidence": confidence, "reason": reason, "conversation_id": conversation}
            _print(_elsewhere(door, reference, acknowledge, ballot), reference, as_json=as_json)
        return

    def show(session: Session) -> dict[str, Any]:
        return as_told(consensus_results.results(session, consensus.find(session, reference, conversation_id=conversation), with_ballots=True))

    def cast(session: Session) -> votes.Cast:
        if acknowledge is not None:
            found = consensus.find(session, reference, conversation_id=conversation)
            consensus.acknowledge(session, str(found.id), whole(acknowledge, found.options_hash), conversation_id=found.conversation_id)
        return votes.respond(session, reference, response or [], confidence=confidence, reason=reason, conversation_id=conversation)

    if not response:
        print_vote(transact_as_agent(show), as_json=as_json)
        return
    done = transact_as_agent(cast)
    ended = transact(lambda session: decisions.settle(session, done.vote.id))
    told = {
        "consensus_id": str(done.vote.id),
        "revision": done.ballot.revision,
        "voter": done.ballot.actor,
        "choice": done.ballot.choice,
        "mode": done.mode,
        "state": ended.state,
        "winner": (ended.outcome or {}).get("winner"),
    }
    _print(told, consensus.called(done.vote), as_json=as_json)


def _results(door: "FrontDoor", reference: str, conversation: str | None) -> dict[str, Any]:
    """Return how a vote stands. Raises PermanentError where what is shown is not what is told to have that hash: it would be signed unread."""
    found = ask(door, "federation_consensus_results", consensus_id=reference, ballots=True, conversation_id=conversation)
    hashed = found["proposal"]
    shown = {name: found[name] for name in _HASHED}
    if content_sha256(hashed) != found["options_hash"] or canonical(shown) != canonical({name: hashed[name] for name in _HASHED}):
        raise PermanentError(f"{door.url} shows of {reference} what its options_hash is not the hash of; look at its log, and sign nothing")
    return found


def _elsewhere(door: "FrontDoor", reference: str, acknowledge: str | None, ballot: dict[str, Any]) -> dict[str, Any]:
    """Return what came of a ballot, of which one is signed, over what has the hash that was acknowledged."""
    door.most = 1
    if acknowledge is not None:
        found = _results(door, reference, ballot["conversation_id"])
        # From here on it is this one, whatever the front door says that the name is.
        reference = found["consensus_id"]
        if len(acknowledge) < len(found["options_hash"]):
            # Whoever chooses both proposals finds two that begin alike in a moment.
            raise InvalidInput("--acknowledge", acknowledge, "with --url, all 64 digits of the hash that is shown when you look, without a vote")
        ask(door, "federation_consensus_acknowledge", consensus_id=reference, options_hash=acknowledge.lower())
    counted = ask(door, "federation_consensus_respond", consensus_id=reference, **ballot)
    if door.said is None:
        raise PermanentError(f"{door.url} asks for no signature, because it is of an older version: the ballot counts, attested by it")
    told = {name: counted[name] for name in ("consensus_id", "revision")} | {"voter": door.said.actor, "choice": door.said.choice}
    return told | {name: counted[name] for name in ("mode", "state", "winner")}


def _print(told: dict[str, Any], called: str, *, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps(told, indent=2))
        return
    console.print(inert(f"{told['voter']} voted {told['choice']} in {called}, {told['mode']}. It is {told['state']}."))


def whole(given: str, known: str) -> str:
    """Return the hash that is meant. Raises InvalidInput for too little of one; what is another's is refused where it is used."""
    if len(given) < _SHORTEST_HASH:
        raise InvalidInput("--acknowledge", given, f"{_SHORTEST_HASH} digits or more of the hash that is shown when you look, without a vote")
    return known if known.startswith(given.lower()) else given
