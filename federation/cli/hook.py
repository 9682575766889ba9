"""`federation hook`: a pre-commit hook that refuses what others have claimed, what one has claimed no more, and where nobody can be asked.

Overwrites no hook of others.
"""

import json
import shlex
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from federation.charter import charter
from federation.cli import kept_tokens, repository
from federation.cli.console import console, errors, inert, print_json
from federation.cli.standing_claims import Picture, picture
from federation.errors import FederationError, InvalidInput, Refused
from federation.services import resources
from federation.services.claimed_paths import Obstacle, in_words, obstacles

app = typer.Typer(
    name="hook", help="Keep git from committing what others have claimed.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

PREFIX = f"{resources.FILE}:"
MARK = "# Made by `federation hook install`."
# What a hook of somebody else's is called while ours runs it first.
BEFORE = "pre-commit.before-federation"
WAY_OUT = "To commit nevertheless: git commit --no-verify"
_SHOWN = 20
_REFUSED, _UNREACHABLE = 1, 69

Repository = Annotated[Path | None, typer.Option("--repository", metavar="FOLDER", help="A folder of the repository; unset: the one you are in.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Unreachable(StrEnum):
    """What becomes of a commit where nobody can be asked who has claimed what."""

    REFUSE = "refuse"
    ALLOW = "allow"


# -P, or a folder `federation` in somebody's repository would be run in place of the program.
_SCRIPT = """#!/bin/sh
{mark} It refuses a commit of files that others have claimed; `federation hook uninstall` takes it out.
before="$(dirname "$0")/{before}"
if [ -x "$before" ]; then "$before" "$@" || exit $?; fi
python={python}
if [ ! -x "$python" ]; then
    echo "federation: $python is gone, so nobody can be asked who has claimed what: install it again and call \\`federation hook install\\`." >&2
    if [ "$(git config --get federation.unreachable)" = allow ]; then exit 0; fi
    echo "{way_out}" >&2
    exit 1
fi
exec "$python" -P -m federation.cli.main hook check
"""


def _script() -> str:
    return _SCRIPT.format(mark=MARK, before=BEFORE, python=shlex.quote(sys.executable), way_out=WAY_OUT)


def _is_ours(hook: Path) -> bool:
    return MARK in hook.read_text(errors="replace")


def is_here() -> bool:
    """Say whether the hook is installed in the repository in which this process works."""
    try:
        hook = repository.hook_file(None)
        return hook.exists() and _is_ours(hook)
    except (FederationError, OSError):
        return False


@app.command()
def install(
    folder: Repository = None,
    *,
    prefix: Annotated[
        str | None, typer.Option(help="What the names of this repository's files begin with, such as file:webshop/ ; unset: file:")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="Who commits here; unset: the agent whose token is in FEDERATION_TOKEN, else the person at the command line.")
    ] = None,
    if_unreachable: Annotated[Unreachable | None, typer.Option(help="What becomes of a commit where nobody can be asked; unset: refuse.")] = None,
    chain: Annotated[bool, typer.Option("--chain", help="Keep a hook that is there, and run it first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the pre-commit hook of a repository.

    What it goes by is written into the repository's own configuration of git.

    A hook of somebody else's is not overwritten. Called again it makes the hook anew, with the options of this call.
    """
    if prefix is not None and (not prefix.endswith((":", "/")) or resources.parsed(f"{prefix}x", field="--prefix").name != f"{prefix}x"):
        raise InvalidInput("--prefix", prefix, "a kind, or a kind and a folder, such as file:webshop/")
    hook = repository.hook_file(folder)
    before = hook.with_name(BEFORE)
    if hook.exists() and not _is_ours(hook):
        if not chain or before.exists():
            instead = f"{before} is there as well: look at both" if before.exists() else "with --chain it is kept, and run first"
            raise Refused("A hook of somebody else's is not overwritten:", f"{hook} is there; {instead}.")
        hook.rename(before)
    for key, value in (("prefix", prefix), ("agent", agent), ("unreachable", if_unreachable)):
        repository.set_setting(key, value, folder=folder)
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text(_script())
    hook.chmod(0o755)
    if as_json:
        print_json(json.dumps({"hook": str(hook), "runs_first": str(before) if before.exists() else None}))
    else:
        console.print(inert(f"{hook} asks before each commit who has claimed what." + (f" It runs {before} first." if before.exists() else "")))


@app.command()
def uninstall(folder: Repository = None, as_json: AsJson = False) -> None:
    """Take the hook out; one that it ran first is in its place again."""
    hook = repository.hook_file(folder)
    before = hook.with_name(BEFORE)
    if not hook.exists() or not _is_ours(hook):
        raise Refused("Only what `federation hook install` wrote is taken out:", f"{hook} is {'of somebody else' if hook.exists() else 'not there'}.")
    hook.unlink()
    restored = before.exists()
    if restored:
        before.rename(hook)
    for key in ("prefix", "agent", "unreachable"):
        repository.set_setting(key, None, folder=folder)
    if as_json:
        print_json(json.dumps({"hook": str(hook), "restored": restored}))
    else:
        console.print(inert(f"{hook} is {'what it was before' if restored else 'gone'}."))


@app.command()
def check(as_json: AsJson = False) -> None:
    """Say whether what is staged may be committed.

    The hook calls this.

    Exit code 0: it may. 1: others have claimed it, this repository has not the token of your claim, your claim is over, or the charter wants one.
    69: nobody could be asked.
    """
    paths = repository.staged()
    if not paths:
        _tell([], me=None, as_json=as_json)
        return
    try:
        prefix = repository.setting("prefix") or PREFIX
        found = picture(prefix)
        blocked = obstacles(paths, found.claims, found.required, prefix=prefix, tokens=kept_tokens.kept())
    except (FederationError, OSError) as error:
        _give_up(error, as_json=as_json)
        return
    _tell(blocked, me=found.me, as_json=as_json)
    if blocked:
        if not as_json:
            _explain(blocked, found)
        raise typer.Exit(_REFUSED)


@app.command()
def token(
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="What you have claimed, such as file:src/**")],
    number: Annotated[int | None, typer.Argument(metavar="TOKEN", min=1, help="The fencing token that the claim gave.")] = None,
    *,
    forget: Annotated[bool, typer.Option("--forget", help="Know no token of it any more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell the hook the token of a claim won elsewhere.

    Such as with the tool federation_claim. What `federation claim take` wins in the repository, and what `federation claim release` gives back, it
    knows by itself.
    """
    name = resources.parsed(resource, field="RESOURCE").name
    if (number is None) is not forget:
        raise InvalidInput("TOKEN", number, "the fencing token of the claim, or --forget")
    known = kept_tokens.forget(name) if number is None else True
    if number is not None:
        kept_tokens.keep(name, number)
    if as_json:
        print_json(json.dumps({"resource": name, "token": number, "known": known}))
    elif number is not None:
        console.print(inert(f"Commits of what {name} covers pass while your claim on it has token {number}."))
    else:
        console.print(inert(f"No token of {name} is known here{' any more' if known else ''}."))


def _tell(blocked: list[Obstacle], *, me: str | None, as_json: bool) -> None:
    if as_json:
        told = [
            {
                "path": each.path,
                "resource": each.resource,
                "holder": each.claim and each.claim.holder,
                "expires_at": each.claim and each.claim.expires_at.isoformat(),
                "token": each.token and asdict(each.token),
            }
            for each in blocked
        ]
        print_json(json.dumps({"allowed": not blocked, "you": me, "refused": told}, indent=2))


def _explain(blocked: list[Obstacle], found: Picture) -> None:
    errors.print(inert(f"federation: this commit is refused. {charter().principle('claim')}"))
    for each in blocked[:_SHOWN]:
        errors.print(inert(f"  {in_words(each, me=found.me)}"))
    if len(blocked) > _SHOWN:
        errors.print(f"  and {len(blocked) - _SHOWN} more")
    holders = sorted({each.claim.holder for each in blocked if each.claim is not None and not each.claim.mine})
    if holders:
        errors.print(inert(f"Unstage these files (git restore --staged), or wait until {' and '.join(holders)} gave them back."))
    if any(each.claim is not None and each.claim.mine for each in blocked):
        errors.print("Look at what has changed since you had it before, and tell the token that the claim gave: federation hook token RESOURCE TOKEN")
    if any(each.claim is None and each.token is not None for each in blocked):
        errors.print(
            "Claim it again, here with `federation claim take RESOURCE`, and look at what has changed since; "
            "or, where you are done with it: federation hook token RESOURCE --forget"
        )
    if any(each.claim is None and each.token is None for each in blocked):
        errors.print("Claim with `federation claim take RESOURCE`, or as an agent with federation_claim, and commit again.")
    errors.print(WAY_OUT)


def _give_up(error: Exception, *, as_json: bool) -> None:
    allowed = repository.setting("unreachable") == Unreachable.ALLOW
    if as_json:
        print_json(json.dumps({"allowed": allowed, "you": None, "refused": [], "problem": str(error)}, indent=2))
    else:
        errors.print(inert(f"federation: nobody can be asked who has claimed what: {error}"))
        if allowed:
            errors.print("The commit goes on unchecked, because git's federation.unreachable is `allow`.")
        else:
            errors.print(f"So the commit is refused. {WAY_OUT}, or always when nobody can be asked: git config federation.unreachable allow")
    if not allowed:
        raise typer.Exit(_UNREACHABLE)
