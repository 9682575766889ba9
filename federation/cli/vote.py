"""`federation vote`: shows an agent what is voted on, acknowledges it by its hash, and votes under a signature of the agent's own."""

import json
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from federation.cli.as_agent import transact_as_agent
from federation.cli.consensus import AsJson, InConversation, as_told, print_vote
from federation.cli.console import console, inert, print_json
from federation.cli.operator import transact
from federation.errors import InvalidInput
from federation.services import consensus, consensus_results, decisions, votes

# So much of a hash that nobody hits upon it.
_SHORTEST_HASH = 8
Acknowledge = Annotated[
    str | None,
    typer.Option("--acknowledge", metavar="HASH", help="The options' hash, or 8 digits of it or more: you have read these."),
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
    as_json: AsJson = False,
) -> None:
    """Vote as the agent whose token FEDERATION_TOKEN is, and sign the ballot with the key of this machine.

    Without an option it shows what is voted on, and its hash.
    """

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
    if as_json:
        print_json(json.dumps(told, indent=2))
        return
    console.print(inert(f"{told['voter']} voted {told['choice']} in {consensus.called(done.vote)}, {told['mode']}. It is {told['state']}."))


def whole(given: str, known: str) -> str:
    """Return the hash that is meant. Raises InvalidInput for too little of one; what is another's is refused where it is used."""
    if len(given) < _SHORTEST_HASH:
        raise InvalidInput("--acknowledge", given, f"{_SHORTEST_HASH} digits or more of the hash that is shown when you look, without a vote")
    return known if known.startswith(given.lower()) else given
