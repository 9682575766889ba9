"""`federation agent`: adds agents, gives and takes tokens, prints what MCP clients need; shows no token twice, and takes none as an argument."""

import getpass
import json
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from federation.cli import agent_key, agent_stomp
from federation.cli.console import console, errors, inert, print_json, table
from federation.cli.mcp_clients import FILES, Client, configuration
from federation.cli.operator import take_away, transact
from federation.errors import InvalidInput, Refused
from federation.local.certificates import Certificates
from federation.local.home import Home
from federation.mcp.where import mcp_url
from federation.security.signing import load_or_make
from federation.services import agent_keys, agents, profiles
from federation.services.agent_keys import KeyView
from federation.services.signers import SHOWN
from federation.settings import settings

_FROM_STDIN = "-"

app = typer.Typer(
    name="agent", help="Add agents, give and take tokens, configure MCP clients.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

app.add_typer(agent_key.app)
app.command("stomp")(agent_stomp.stomp)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the agent.")]
Role = Annotated[
    str, typer.Option("--role", metavar="ROLE", help="lead, developer, analyst, human, observer, service, or one that your charter adds.")
]
Label = Annotated[str, typer.Option("--label", help="Where the token will be used, such as the machine; `agent tokens` shows it.")]
Days = Annotated[
    float | None, typer.Option("--days", min=0, max=36_500, help="Days that the token lasts, 0: for ever; unset: FEDERATION_TOKEN_DAYS.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _lasting(days: float | None) -> timedelta | None:
    return timedelta(days=settings().token_days if days is None else days) or None


def _show_token(name: str, role: str, token: str, *, as_json: bool, key: tuple[Path, KeyView] | None = None) -> None:
    if as_json:
        print_json(json.dumps({"name": name, "role": role, "token": token} | ({} if key is None else {"key": key[1].identity})))
        return
    print_json(token)
    if key is not None:
        errors.print(inert(f"{key[0]} holds the private key {key[1].identity[:SHOWN]} of {name}: it goes to where {name} works, and nowhere else."))
    errors.print(f"This is the token of {name} ({role}). It is shown this once; keep it.")
    errors.print(f"Connect an MCP client with: federation agent config {name} --client claude-code --token -   (and give it the token there)")


@app.command()
def add(
    name: Name,
    role: Role,
    *,
    label: Label = "",
    days: Days = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Make its key in this file, mode 0600, unless one is there, and make the public half known."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add an agent and print its token, this once.

    With --key it can sign at once. Without, `federation mcp` makes a key when it starts with the token.
    """
    lasting = _lasting(days)

    def work(session: Session) -> tuple[str, tuple[Path, KeyView] | None]:
        secret = agents.add(session, name, role, label=label, lasting=lasting)
        return secret, None if key is None else (key, _with_key(session, name, key))

    secret, made = transact(work)
    _show_token(name, role, secret, as_json=as_json, key=made)


def _with_key(session: Session, name: str, file: Path) -> KeyView:
    try:
        if file.exists() and file.stat().st_mode & 0o077:
            raise InvalidInput("--key", str(file), f"a private key that its user alone can read: chmod 600 {file}")
        key = load_or_make(file)
    except OSError as error:
        raise InvalidInput("--key", str(file), f"a file that you can write ({error.strerror})") from error
    return agent_keys.register(session, name, key.public)


@app.command()
def token(name: Name, label: Label = "", days: Days = None, as_json: AsJson = False) -> None:
    """Give an agent one more token.

    It is printed this once; those that the agent has stay valid.
    """
    lasting = _lasting(days)

    def work(session: Session) -> tuple[str, str]:
        return agents.get(session, name).role, agents.issue_token(session, name, label=label, lasting=lasting)

    role, secret = transact(work)
    _show_token(name, role, secret, as_json=as_json)


@app.command("list")
def list_agents(as_json: AsJson = False) -> None:
    """List all agents, with how many valid tokens and keys each has.

    Where the organisation's tokens are taken, an agent without one of its own may still call.
    """
    found = transact(agents.everybody)
    if as_json:
        print_json(json.dumps([asdict(row) | {"created_at": row.created_at.isoformat()} for row in found], indent=2))
        return
    rows = table("agent", "role", "tokens", "keys", "added by", "added at")
    for row in found:
        made = f"{row.created_at:%Y-%m-%d %H:%M}"
        rows.add_row(inert(row.name), inert(row.role), str(row.tokens), str(row.keys), inert(row.created_by), made)
    console.print(rows if found else "There is no agent yet. Add one with: federation agent add NAME --role ROLE")


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show an agent, what it can do, and how its work came out.

    By tasks, hypotheses and votes whose outcome is known; the weight is what that would count in a vote by expertise.
    """
    [found] = transact(lambda session: profiles.of(session, [name]))
    if as_json:
        print_json(json.dumps(asdict(found), indent=2))
        return
    able = ", ".join(found.capabilities) or "nothing by name"
    console.print(inert(f"{found.agent} ({found.role}) says that it can do: {able}. It voted {found.voted} times, {found.agreed} for what won."))
    rows = table("of", "well", "badly", "weight")
    for one in found.record:
        rows.add_row(inert(one.of), str(one.well), str(one.badly), f"{one.weight:g}")
    console.print(rows)


@app.command()
def tokens(name: Name, as_json: AsJson = False) -> None:
    """List the tokens of an agent, valid or not.

    By id, label and state: the tokens themselves are stored nowhere.
    """
    found = transact(lambda session: agents.tokens(session, name))
    if as_json:
        print_json(json.dumps([{**asdict(one), "state": one.state} for one in found], indent=2, default=str))
        return
    rows = table("id", "label", "state", "made by", "made at", "expires at")
    for one in found:
        ends = f"{one.expires_at:%Y-%m-%d %H:%M}" if one.expires_at else "never"
        rows.add_row(str(one.id), inert(one.label), one.state, inert(one.created_by), f"{one.created_at:%Y-%m-%d %H:%M}", ends)
    console.print(rows if found else f"{name} has no token. Give it one with: federation agent token {name}")


@app.command()
def rotate(
    name: Name,
    label: Annotated[str | None, typer.Option("--label", help="Revoke the tokens of this label alone; the new one has it too.")] = None,
    days: Annotated[
        float | None, typer.Option("--days", min=0, max=36_500, help="Days that the token lasts, 0: for ever; unset: as the one before it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Revoke all tokens of an agent and print a new one, this once.

    What is revoked opens the doors for three more seconds at most.
    """
    chosen = _lasting(days)

    def work(session: Session) -> tuple[str, str]:
        lasting = agents.lasting_before(session, name, label=label, otherwise=chosen) if days is None else chosen
        return agents.get(session, name).role, agents.rotate(session, name, label=label, lasting=lasting)

    role, secret = transact(work)
    _show_token(name, role, secret, as_json=as_json)


@app.command()
def revoke(
    name: Name,
    token: Annotated[str | None, typer.Option("--token", metavar="ID", help="Only this one, by the beginning of its id in `agent tokens`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Revoke all tokens of an agent, or one.

    The front door turns it away within three seconds, and the STOMP door ends its connections. What else lets it in is named.
    """

    def work(session: Session) -> int:
        return agents.revoke(session, name, token=token)

    count = take_away(work, lambda ended: f"{name} is turned away: {ended} tokens revoked")
    if token is None and settings().jwt_issuer is not None:
        errors.print(inert(f"A JWT of {settings().jwt_issuer} goes on opening the door to {name} until it is ended there."))
    if as_json:
        print_json(json.dumps({"name": name, "revoked": count}))
        return
    console.print(f"{name}: {count} {'token' if count == 1 else 'tokens'} revoked. Give it a new one with: federation agent rotate {name}")


@app.command()
def config(
    name: Name,
    client: Annotated[Client, typer.Option("--client", help="For which MCP client.")] = Client.CLAUDE_CODE,
    token: Annotated[
        str | None,
        typer.Option("--token", metavar=_FROM_STDIN, help="Read the token from standard input; unset: FEDERATION_TOKEN, or a place to fill in."),
    ] = None,
    sign: Annotated[
        bool, typer.Option("--sign", help="Through `federation mcp --url` on the client's machine, which signs with a key that stays there.")
    ] = False,
) -> None:
    """Print the lines that connect an MCP client.

    They go to standard output; where to put them is said on standard error.
    """
    secret = _secret(token)
    transact(lambda session: _check(session, name, secret))
    errors.print(f"For {FILES[client]}:")
    if secret is None:
        errors.print(f"Put the token of {name} in; if it is lost: federation agent rotate {name}")
    else:
        errors.print("The lines hold the token: keep them out of version control.")
    trusted = Certificates(Home(settings().data_dir).tls_dir).authority if settings().tls else None
    if sign:
        errors.print(f"`federation` must be installed on the client's machine; it makes the key of {name} there.")
        if trusted is not None:
            errors.print(f"Copy {inert(str(trusted))} there, and name its place after --ca.")
    elif trusted is not None:
        errors.print(f"The client must trust {inert(str(trusted))}; those on Node take its path from the variable NODE_EXTRA_CA_CERTS.")
    url = mcp_url(settings(), for_others=True)
    print_json(configuration(client, url=url, token=secret or f"TOKEN-OF-{name}", sign_as=name if sign else None, authority=trusted))


def _secret(option: str | None) -> str | None:
    if option is None:
        given = settings().token
        return given.get_secret_value() if given else None
    if option != _FROM_STDIN:
        # It is not repeated here, because it may be a token.
        wants = f"{_FROM_STDIN} with the token on standard input, or FEDERATION_TOKEN: everybody on this machine can read a command line"
        raise InvalidInput("--token", "something else", wants)
    return getpass.getpass("Token: ").strip() if sys.stdin.isatty() else sys.stdin.readline().strip()


def _check(session: Session, name: str, secret: str | None) -> None:
    agents.get(session, name)
    if secret is not None and (owner := agents.authenticate(session, secret).name) != name:
        raise Refused("A token speaks for one agent:", f"this one is {owner}'s, not {name}'s.")
