"""`federation consensus`: asks for votes, lists, shows, withdraws and exports them, and verifies an export with no federation at hand."""

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from federation.cli import inputs
from federation.cli.as_agent import transact_as_agent
from federation.cli.console import console, errors, inert, print_json, table
from federation.cli.operator import transact
from federation.consensus.ballots import Base
from federation.consensus.mechanisms import Name
from federation.errors import InvalidInput, NotFound
from federation.security.decision_file import NotADecision, Verdict, verify
from federation.security.signing import PublicKey, load_public
from federation.services import consensus, consensus_results, decisions
from federation.services.consensus_export import exported
from federation.services.consensus_results import Results
from federation.services.electorates import DEFAULT_S, Asked
from federation.store.models.consensus import Consensus

app = typer.Typer(
    name="consensus", help="Ask for votes, show, export and verify them.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

Reference = Annotated[str, typer.Argument(metavar="ID", help="Id or name of the vote.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
InConversation = Annotated[
    str | None, typer.Option("--conversation", metavar="ID", help="Its conversation; needed only where the name stands in several.")
]

_STDOUT = Path("-")
_LISTED = ("name", "state", "mechanism", "voted", "deadline", "created_by", "conversation_id", "question")


@app.command("list")
def list_votes(
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the latest votes."""
    found = transact(lambda session: [_line(session, vote) for vote in consensus.latest(session, only_open=only_open, limit=limit)])
    if as_json:
        print_json(json.dumps(found, indent=2, default=str))
        return
    rows = table("vote", "state", "by", "voted", "until", "asked by", "in", "question")
    for one in found:
        rows.add_row(*(inert(str(one[name])) for name in _LISTED))
    console.print(rows if found else "No vote is open." if only_open else "There is no vote yet.")


@app.command()
def show(reference: Reference, as_json: AsJson = False) -> None:
    """Show what is voted on, by whom, and how it stands or ended."""
    told = transact(lambda session: as_told(consensus_results.results(session, _located(session, reference), with_ballots=True)))
    print_vote(told, as_json=as_json)


@app.command()
def request(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What is to be decided.")],
    *,
    option: Annotated[list[str] | None, typer.Option("--option", help="What one may vote for, each once; left out: yes, no.")] = None,
    mechanism: Annotated[Name, typer.Option(help="How a winner is found.")] = Name.MAJORITY,
    voter: Annotated[list[str] | None, typer.Option("--voter", help="Who may vote, each once; left out: all members whose role may.")] = None,
    weight: Annotated[list[str] | None, typer.Option("--weight", metavar="NAME=NUMBER", help="The weight of a voter; 1 if not named.")] = None,
    quorum: Annotated[str | None, typer.Option(help="majority, unanimous, threshold, or a share from 0 to 1.")] = None,
    threshold: Annotated[float | None, typer.Option(help="The share for the mechanism or the quorum threshold.")] = None,
    base: Annotated[Base | None, typer.Option(help="What shares are of; left out: cast, with --task electorate.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds until it ends.")] = DEFAULT_S,
    shown: Annotated[bool, typer.Option("--shown", help="Everybody sees votes before the end.")] = False,
    late: Annotated[bool, typer.Option("--until-the-end", help="Keep it open to its deadline although nothing can change it.")] = False,
    signed: Annotated[bool, typer.Option("--signed", help="Only ballots signed by the voter's own key count.")] = False,
    task: Annotated[str | None, typer.Option(metavar="ID", help="A task that awaits approval: the outcome lets it begin or rejects it.")] = None,
    conversation: Annotated[str | None, typer.Option("--conversation", metavar="ID", help="Where its voters are; left out: the commons.")] = None,
    name: Annotated[str | None, typer.Option("--id", metavar="NAME", help="A name for the vote.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a vote as the agent whose token FEDERATION_TOKEN is."""
    asked = Asked(
        question=question,
        options=option or None,
        mechanism=mechanism,
        voters=voter or None,
        weights=inputs.weights("--weight", weight or []),
        quorum=_share(quorum),
        threshold=threshold,
        base=base,
        timeout_s=timeout,
        shown=shown,
        early=not late,
        signed=signed,
        task=task,
        conversation_id=conversation,
    )

    def work(session: Session) -> dict[str, Any]:
        return as_told(consensus_results.results(session, consensus.request(session, asked, slug=name)))

    print_vote(transact_as_agent(work), as_json=as_json)


def _share(given: str | None) -> str | float | None:
    try:
        return None if given is None else float(given)
    except ValueError:
        return given


@app.command()
def withdraw(reference: Reference, reason: Annotated[str, typer.Option(help="Why, for its voters.")], as_json: AsJson = False) -> None:
    """End a vote without an outcome.

    A task that it was about awaits approval as before. An operator does, whatever token is set.
    """
    told = transact(lambda session: _line(session, decisions.withdraw(session, _located(session, reference), reason=reason)))
    if as_json:
        print_json(json.dumps(told, indent=2, default=str))
    else:
        console.print(inert(f"Withdrew {reference}."))


@app.command()
def export(
    reference: Reference,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; - writes to standard output.")] = _STDOUT,
) -> None:
    """Write a closed vote as one JSON document for a stranger.

    It holds the proposal, all ballots with their signatures, the public keys, and the outcome; `federation consensus verify` needs nothing else.
    """
    document = transact(lambda session: exported(session, _located(session, reference)))
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if file == _STDOUT:
        print_json(text)
        return
    try:
        with file.open("x", encoding="utf-8") as made:
            made.write(text + "\n")
    except FileExistsError as error:
        raise InvalidInput("FILE", str(file), "a file that does not exist yet") from error
    errors.print(inert(f"Wrote {file}. Whoever gets it verifies it with: federation consensus verify {file}"))


@app.command("verify")
def verify_export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported vote; - reads standard input.")],
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="NAME=FILE", help="The public key of a voter or a part, as you know it; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify an exported vote; asks no federation.

    Looks at the hash of the proposal, each signature, the electorate, the count, and when it ended. Exit code 1 when something is wrong, 2 for
    what is no export.
    """
    verdict = _verified(file, dict(_pinned(each) for each in key or []))
    if as_json:
        print_json(json.dumps({"ok": not verdict.flaws, **asdict(verdict)}, indent=2))
    else:
        _print_verdict(verdict)
    raise typer.Exit(1 if verdict.flaws else 0)


def _verified(file: Path, pinned: dict[str, PublicKey]) -> Verdict:
    try:
        text = sys.stdin.read() if file == _STDOUT else file.read_text("utf-8")
        return verify(json.loads(text, object_pairs_hook=_named_once), pinned=pinned)
    except OSError as error:
        raise InvalidInput("FILE", str(file), f"a file that can be read ({error.strerror})") from error
    except (NotADecision, ValueError, RecursionError) as error:
        raise InvalidInput("FILE", str(file), f"a vote as `federation consensus export` writes it: {error}") from error


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Raises ValueError where a name stands in it twice: readers differ in which of the two they take."""
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"{name!r} stands twice in one object of it")
    return dict(pairs)


def _pinned(given: str) -> tuple[str, PublicKey]:
    name, equals, where = given.partition("=")
    if not equals or not name:
        raise InvalidInput("--key", given, "a name and the file of a public key, such as carol=carol.pub.pem")
    return name, load_public(Path(where))


def _print_verdict(verdict: Verdict) -> None:
    console.print(inert(verdict.question))
    rows = table("voter", "voted", "vouched for by", "key")
    for one in verdict.vouched:
        rows.add_row(*map(inert, (one.voter, one.choice, "the voter's own signature" if one.attested_by is None else one.attested_by, one.key)))
    if verdict.vouched:
        console.print(rows)
    for voter in verdict.equivocations:
        console.print(inert(f"EQUIVOCATION: {voter} signed two ballots that contradict each other."))
    counted = ", ".join(f"{option} {count}" for option, count in verdict.votes.items()) or "no votes"
    console.print(inert(f"{verdict.state}: {verdict.winner or 'no winner'} ({counted})"))
    for flaw in verdict.flaws:
        console.print(f"[red]{inert(flaw)}[/]")
    console.print(f"[red]{len(verdict.flaws)} flaws.[/]" if verdict.flaws else "[green]Hash, signatures, electorate and count hold.[/]")


def _located(session: Session, reference: str) -> Consensus:
    found = consensus.anywhere(session, reference)
    if len(found) > 1:
        where = ", ".join(f"{vote.conversation_id} ({vote.id})" for vote in found)
        raise InvalidInput("ID", reference, f"an id, because the name stands in {where}")
    if not found:
        raise NotFound("vote", reference, [vote.slug or str(vote.id) for vote in consensus.latest(session, limit=1000)])
    return found[0]


def _line(session: Session, vote: Consensus) -> dict[str, Any]:
    about = vote.proposal
    return {
        "name": vote.slug or str(vote.id),
        "id": str(vote.id),
        "state": vote.state,
        "mechanism": about["mechanism"],
        "voted": f"{len(consensus.ballots(session, vote))}/{len(about['electorate'])}",
        "deadline": f"{vote.deadline:%Y-%m-%d %H:%M:%S}",
        "created_by": vote.created_by,
        "conversation_id": vote.conversation_id,
        "question": about["question"],
        "winner": (vote.outcome or {}).get("winner"),
    }


def as_told(found: Results) -> dict[str, Any]:
    """Return results as JSON has them."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(found), default=str))
    return told


def print_vote(told: dict[str, Any], *, as_json: bool) -> None:
    """Print how a vote stands, field by field."""
    if as_json:
        print_json(json.dumps(told, indent=2))
        return
    for name, value in told.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            console.print(inert(f"{name}:"))
            for one in value:
                console.print(inert("  " + json.dumps(one, ensure_ascii=False)))
        elif value not in (None, [], {}):
            shown_as = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            # Further lines stand below the first, so that nobody writes lines that look like the others.
            console.print(inert(f"{name:<16} {shown_as}".replace("\n", "\n" + 17 * " ")))
