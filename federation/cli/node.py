"""`federation node`: lets one node in with a login of its own, gives it another, and shuts it out alone; starts no worker, and shows no password."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

import typer

from federation.cli import operator
from federation.cli.console import console, errors, inert, print_json, table
from federation.delivery.app import application, service_url
from federation.delivery.purging import Purge, Purged
from federation.delivery.runtime import transactions
from federation.errors import DatabaseUnavailable, InvalidInput, NotFound, SettingsError, TransientError
from federation.local import anew, children, credentials, node_roles, node_settings
from federation.local.activemq import rights_of_node, user_of_node
from federation.local.certificates import usable
from federation.local.elsewhere import is_elsewhere
from federation.local.home import Home
from federation.local.person import person
from federation.local.postgres import DATABASE, Postgres
from federation.placement import node_file
from federation.services import node_logins, signers
from federation.settings import Settings, settings

T = TypeVar("T")

_BROKER = "activemq"
# After a session that does not end was killed.
_BACK_WITHIN_S = 60.0
_USUAL_DAYS = 90.0
_PURGES_WITHIN_S, _TELL_EVERY = 60.0, 1_000

app = typer.Typer(
    name="node",
    help="Let single nodes in, and shut them out: each with a login of its own at PostgreSQL and ActiveMQ.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the node, as in `celery -A federation worker -Q NAME`.")]
Days = Annotated[float, typer.Option("--days", min=0, max=36_500, help="Days that PostgreSQL takes the login, 0: for ever.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class _Place:
    """The servers that nodes log in to: ours, or those that the settings name."""

    config: Settings
    home: Home
    own_broker: bool
    own_database: bool

    @property
    def postgres(self) -> Postgres:
        """Our own PostgreSQL."""
        port = credentials.load_or_make(self.home).postgres_port
        return Postgres(self.home.data_dir / "postgres", port, certificates=usable(self.config))

    @property
    def administrator(self) -> str:
        """The URL of who may make roles: of our own PostgreSQL the superuser's, of another the owner's, who must have been given the right."""
        if self.own_database:
            return self.postgres.url(DATABASE)
        if self.config.database_owner_url is None:
            raise SettingsError("FEDERATION_DATABASE_OWNER_URL is not set: it names your PostgreSQL as a role that may make roles")
        return self.config.database_owner_url.get_secret_value()

    @property
    def service(self) -> str:
        """The URL of the program's own role, which may see who there is."""
        return service_url(self.config)

    def at_the_broker(self) -> list[str] | None:
        """Return the nodes that our ActiveMQ has as users; None where it is not ours to know."""
        return sorted(credentials.load_or_make(self.home).nodes) if self.own_broker else None


def _place(*, changes: bool = True) -> _Place:
    config = settings()
    if config.broker_url is None:
        raise SettingsError("FEDERATION_BROKER_URL is not set: start `federation up`, or name an ActiveMQ")
    home = Home(config.data_dir)
    if changes:
        anew.check(home)
    return _Place(config, home, not is_elsewhere(config, "broker_url"), not is_elsewhere(config, "database_service_url"))


@contextmanager
def _as_administrator() -> Iterator[None]:
    """Go first as who administers, whom no node can keep from it, as it can keep the program's own roles by ending their sessions."""
    try:
        yield
    except (DatabaseUnavailable, FileNotFoundError):
        # It says what to do where the federation does not run.
        operator.check()
        raise


def _ended(place: _Place, work: Callable[[], T]) -> T:
    """Do what ends sessions; those of our own PostgreSQL that do not end are killed, by which it starts anew. Raises Unended elsewhere."""
    try:
        return work()
    except node_roles.Unended as error:
        if not place.own_database:
            raise
        postgres = place.postgres
        errors.print(f"PostgreSQL starts anew, because {len(error.pids)} sessions do not end; all others come back to it by themselves.")
        for pid in set(error.pids) & set(children.working_in(postgres.cluster)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    done: list[T] = []

    def again() -> bool:
        # Until it is back, and at first, until it has noticed.
        with suppress(DatabaseUnavailable):
            done.append(work())
        return bool(done)

    return done[0] if children.wait_until(again, _BACK_WITHIN_S) else work()


def _valid(name: str) -> str:
    if name in node_file.RESERVED or not re.fullmatch(node_file.NAME, name):
        wants = f"up to 40 small letters, digits, - and _, the first a letter, and not {', '.join(sorted(node_file.RESERVED))}"
        raise InvalidInput("name", name, wants)
    return name


@app.command()
def add(name: Name, days: Days = _USUAL_DAYS, as_json: AsJson = False) -> None:
    """Let a node in, and write what it needs to a file.

    It gets two roles of PostgreSQL, which end by themselves, and a user of ActiveMQ, which reads its own queue and no other node's.
    """
    operator.check()
    place, lasting = _place(), timedelta(days=days) or None
    password = credentials.new_password()
    ends = node_roles.let_in(place.administrator, _valid(name), password, lasting=lasting)
    _hand_over(place, name, password, ends, renewed=False, as_json=as_json)


@app.command()
def rotate(name: Name, days: Days = _USUAL_DAYS, as_json: AsJson = False) -> None:
    """Give a node another login, and end the one before.

    Its worker is cut off at once, until it is started with the new file.
    """
    place, lasting = _place(), timedelta(days=days) or None
    password = credentials.new_password()
    with _as_administrator():
        ends = _ended(place, lambda: node_roles.renew(place.administrator, name, password, lasting=lasting))
    _hand_over(place, name, password, ends, renewed=True, as_json=as_json)


def _hand_over(place: _Place, name: str, password: str, ends: datetime | None, *, renewed: bool, as_json: bool) -> None:
    at_broker = credentials.let_node_in(place.home, name) if place.own_broker else credentials.new_password()
    content = node_settings.variables(place.config, name, database=password, broker=at_broker)
    certificates = usable(place.config) if place.own_broker or place.own_database else None
    # First, because what the node had before lets it in no more.
    file = node_settings.write(place.home, name, content, ends, certificates)
    try:
        done = f"{name} is let in by {file}"
        operator.record(lambda session: node_logins.record_admitted(session, name, expires_at=ends, renewed=renewed), done)
    finally:
        _tell_the_broker(place)
    if as_json:
        told = {
            "name": name,
            "roles": [node_roles.name_of(name, acting) for acting in node_roles.ACTING_AS],
            "user": user_of_node(name),
            "expires_at": ends and ends.isoformat(),
            "file": str(file),
        }
        print_json(json.dumps(told, indent=2))
    else:
        print_json(str(file))
    until = f" until {ends:%Y-%m-%d %H:%M}" if ends else ""
    errors.print(inert(f"This file lets {name} in{until}. Bring it to the node's machine, for its worker's user alone, and remove it here. There:"))
    errors.print(inert(f"set -a; . ./{file.name}; set +a; celery -A federation worker -Q {name}"))
    if renewed:
        errors.print(inert(f"What {name} had before lets nobody in any more."))
    if not place.own_broker:
        user = f'<authenticationUser username="{user_of_node(name)}" password="…" groups="workers,{user_of_node(name)}"/>'
        errors.print(inert(f"Your ActiveMQ must have this user, with the password that is in the file, and this right:\n{user}"))
        errors.print(inert(rights_of_node(name)))


def _tell_the_broker(place: _Place) -> None:
    if place.own_broker:
        errors.print("ActiveMQ starts anew, to go by it; all others come back to it by themselves.")
        anew.start_anew(_BROKER, place.home)


@app.command("list")
def list_nodes(as_json: AsJson = False) -> None:
    """List the nodes with a login of their own.

    Until when PostgreSQL takes it, how many sessions are open there, and whether ActiveMQ knows the node.
    """
    operator.check()
    place = _place(changes=False)
    roles, users = node_roles.everybody(place.service), place.at_the_broker()
    known = {one.node: one for one in roles} | {name: None for name in users or () if name not in {one.node for one in roles}}
    if as_json:
        told = [
            {"name": name, **({} if one is None else {key: value for key, value in asdict(one).items() if key != "node"})}
            | {"database": one is not None, "broker": None if users is None else name in users}
            for name, one in sorted(known.items())
        ]
        print_json(json.dumps(told, indent=2, default=str))
        return
    rows = table("node", "login at PostgreSQL", "expires at", "sessions", "user of ActiveMQ")
    for name, one in sorted(known.items()):
        state = "none" if one is None else "shut out" if one.shut_out else "expired" if one.expired else "valid"
        ends = "" if one is None else f"{one.expires_at:%Y-%m-%d %H:%M}" if one.expires_at else "never"
        user = "yours to know" if users is None else user_of_node(name) if name in users else "none"
        rows.add_row(inert(name), state, ends, "" if one is None else str(one.sessions), inert(user))
    console.print(rows if known else "No node has a login of its own. Give one with: federation node add NAME")


@app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Shut a node out, at once and alone.

    Its sessions end, its logins are removed, and the keys that it signs with are revoked. What waits for it goes to other nodes.
    """
    place = _place()
    with _as_administrator():
        with_role = {one.node for one in node_roles.everybody(place.administrator)}
    if name not in (known := with_role | set(place.at_the_broker() or ())):
        raise NotFound("node with a login of its own", name, known)
    # First, and as nobody whom the node could keep from it.
    try:
        sessions = _ended(place, lambda: node_roles.close(place.administrator, name)) if name in with_role else 0
    except DatabaseUnavailable as error:
        # The rest is taken from it all the same; what keeps it is told at the end.
        sessions = 0
        errors.print(inert(str(error)))
    node_settings.path(place.home, name).unlink(missing_ok=True)
    if place.own_broker:
        credentials.shut_node_out(place.home, name)
    _tell_the_broker(place)
    try:
        ended = operator.take_away(
            lambda session: node_logins.record_removed(session, name),
            lambda ended: f"{name} is shut out, and {len(ended)} keys revoked",
        )
        purged = _purged(place, name)
    finally:
        if name in with_role:
            # Last, because PostgreSQL may refuse it, and by its roles the node is known to who calls again after this was killed.
            _ended(place, lambda: node_roles.shut_out(place.administrator, name))
    if as_json:
        told = {"name": name, "sessions": sessions, "signers": [one.identity for one in ended], "purged": purged and asdict(purged)}
        print_json(json.dumps(told, indent=2))
    else:
        console.print(inert(f"{name} is shut out: {sessions} sessions ended, {len(ended)} keys revoked."))
        if purged is not None:
            dropped = f"{purged.dropped} messages that nobody vouches for were dropped from the queues of nodes"
            console.print(f"{dropped}, and {purged.placed_anew} executions of ours that were among them are sent anew.")
    if not place.own_broker:
        errors.print(inert(f"Remove {user_of_node(name)} from the users of your ActiveMQ, and end its connections: until then it reads its queue."))


def _purged(place: _Place, name: str) -> Purged | None:
    """Take from the queues of nodes what this one may have filled them with; None, and why is told, where these cannot be looked at."""

    def tell(dropped: int) -> None:
        if dropped % _TELL_EVERY == 0:
            errors.print(f"{dropped} messages dropped so far.")

    try:
        shut_out = operator.transact(lambda session: [one.identity for one in signers.everybody(session) if one.name == f"node:{name}"])
        required = place.config.signatures == "required"
        purge = Purge(application(), transactions(), actor=person(), shut_out=frozenset(shut_out), required=required, tell=tell)
        purged = purge.run(within_s=_PURGES_WITHIN_S)
    except TransientError as error:
        errors.print(inert(f"{name} may have left messages in the queues of nodes, which put them aside one by one: {error}"))
        return None
    if not purged.is_all:
        errors.print(f"After {_PURGES_WITHIN_S:g} s not all was looked at; nodes put aside one by one what is left.")
    return purged
