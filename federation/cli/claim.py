"""`federation claim`: claims files and other resources for the agent whose token is set, else for the person at the command line; lists, ends."""

import json
import time
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from federation.cli import hook, kept_tokens
from federation.cli.acting import name, transact_as
from federation.cli.console import console, errors, inert, print_json, table
from federation.cli.operator import transact
from federation.cli.waiting import LONGEST_WAIT_S, await_notice, listening
from federation.services import claim_lines, resource_claims, resources
from federation.services.claims import ClaimOutcome, told
from federation.services.resource_claims import Listed
from federation.settings import settings

app = typer.Typer(
    name="claim", help="Claim files and other resources, list and end claims.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="RESOURCE", help="Such as file:src/main.py, or a folder with all below it: file:src/**")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def take(
    resource: Name,
    *,
    description: Annotated[str, typer.Option("--for", help="What you are about to do, for those who look on.")] = "",
    ttl_s: Annotated[float | None, typer.Option("--ttl", help="Seconds that it holds; unset: FEDERATION_CLAIM_TTL_S.")] = None,
    wait_s: Annotated[float, typer.Option("--wait", min=0, max=LONGEST_WAIT_S, help="Seconds to wait in line if somebody has it.")] = 0,
    token: Annotated[int | None, typer.Option("--token", min=1, help="Only extend the claim that has this fencing token.")] = None,
    as_json: AsJson = False,
) -> None:
    """Claim a resource, or extend your claim.

    In the name of the agent whose token is in FEDERATION_TOKEN, else in yours. In a repository with our hook its fencing token is kept for the hook.

    Exit code 1: somebody else holds it.
    """
    who = name()
    lasting_s = settings().claim_ttl_s if ttl_s is None else ttl_s
    outcome = _taken(who, resource, description=description, ttl_s=lasting_s, token=token, wait_s=wait_s)
    if as_json:
        print_json(json.dumps(told(outcome), indent=2))
    elif outcome.claimed:
        console.print(inert(f"{who} holds {outcome.resource} until {outcome.expires_at:%Y-%m-%d %H:%M:%S}, with token {outcome.fencing_token}."))
    else:
        errors.print(inert(f"federation: {_lost(outcome)}"))
    # After it is told, because it may not be possible here.
    if outcome.fencing_token is not None and hook.is_here():
        kept_tokens.keep(outcome.resource, outcome.fencing_token)
    raise typer.Exit(0 if outcome.claimed else 1)


def _taken(who: str, resource: str, *, description: str, ttl_s: float, token: int | None, wait_s: float) -> ClaimOutcome:
    """Claim once, or stand in line until it is won or the time is over; woken by who gives it back."""

    def ask(present_s: float | None = None) -> ClaimOutcome:
        return transact_as(
            who,
            lambda session: resource_claims.take(session, resource, description=description, ttl_s=ttl_s, token=token, present_s=present_s),
        )

    if not wait_s:
        return ask()
    ends = time.monotonic() + wait_s
    with closing(listening()) as connection:
        while True:
            outcome = ask(claim_lines.PRESENT_S)
            left_s = ends - time.monotonic()
            if outcome.claimed or left_s <= 0:
                break
            free_in_s = outcome.free_in_s if outcome.place == 1 else None
            pause_s = claim_lines.LOOK_S if free_in_s is None else max(free_in_s, 0) + 0.02
            await_notice(connection, claim_lines.key(who), min(pause_s, left_s, claim_lines.LOOK_S))
    if not outcome.claimed:
        transact_as(who, lambda session: resource_claims.give_back(session, resource))
    return outcome


def _lost(outcome: ClaimOutcome) -> str:
    if outcome.holder is None:
        return f"others wait for {outcome.resource} before you; wait in line with --wait"
    doing = f" ({outcome.doing})" if outcome.doing else ""
    return f"{outcome.holder} holds {outcome.held} until {outcome.expires_at:%Y-%m-%d %H:%M:%S}{doing}; wait in line with --wait"


@app.command()
def release(resource: Name, as_json: AsJson = False) -> None:
    """Give back a claim of yours, and wait for it no more. Exit code 1: you did neither."""
    who = name()
    given = transact_as(who, lambda session: resource_claims.give_back(session, resource))
    if given.released and hook.is_here():
        kept_tokens.forget(resources.parsed(resource).name)
    if as_json:
        print_json(json.dumps(asdict(given)))
    elif given.released or given.left_line:
        console.print(inert(f"{who} {'gave back' if given.released else 'waits no more for'} {resource}."))
    else:
        errors.print(inert(f"federation: {who} does not hold {resource}; nothing was changed. See `federation claim list`."))
    raise typer.Exit(0 if given.released or given.left_line else 1)


@app.command()
def check(
    resource: Name, token: Annotated[int, typer.Option("--token", min=1, help="The fencing token that the claim gave.")], as_json: AsJson = False
) -> None:
    """Say whether your claim still covers a resource. Exit code 1: it does not.

    For the moment before you change it.
    """
    who = name()
    transact_as(who, lambda session: resource_claims.check(session, resource, token))
    if as_json:
        print_json(json.dumps({"resource": resource, "holder": who, "fencing_token": token, "holds": True}))
    else:
        console.print(inert(f"{who} holds {resource} with token {token}."))


@app.command("list")
def list_claims(
    overlapping: Annotated[str | None, typer.Option("--overlapping", metavar="RESOURCE", help="Only those that are in the way of this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 200,
    after: Annotated[str | None, typer.Option(metavar="RESOURCE", help="Only those behind this name, as the answer before has it in `more`.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the claims that stand, and who waits for them."""
    found: Listed = transact(lambda session: resource_claims.listed(session, overlapping=overlapping, after=after, limit=limit))
    if as_json:
        print_json(json.dumps(asdict(found), indent=2, default=str))
        return
    rows = table("resource", "holder", "until", "doing", "waiting")
    for one in found.claims:
        rows.add_row(*map(inert, (one.resource, one.holder, f"{one.expires_at:%Y-%m-%d %H:%M:%S}", one.description, ", ".join(one.waiting))))
    console.print(rows if found.claims else "Nothing is claimed.")
    if found.more is not None:
        errors.print(inert(f"There are more: federation claim list --after {found.more}"))


@app.command()
def revoke(resource: Name, as_json: AsJson = False) -> None:
    """End whoever's claim of this very name. Its token is worth nothing from then on.

    An operator does, whatever token is set. Exit code 1: nobody had one.
    """
    done = transact(lambda session: resource_claims.revoke(session, resource))
    if as_json:
        print_json(json.dumps({"resource": resource, "revoked": done}))
    elif done:
        console.print(inert(f"Nobody holds {resource} any more; the next in line gets it."))
    else:
        errors.print(inert(f"federation: nobody holds {resource}; see `federation claim list`."))
    raise typer.Exit(0 if done else 1)
