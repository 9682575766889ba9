"""`federation up`: starts everything on this machine and keeps it running; a second one changes nothing."""

import contextlib
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from federation.charter import charter, path, read
from federation.cli.addresses import addresses
from federation.cli.console import address_lines, console, errors, inert
from federation.cli.display import Display
from federation.cli.fetch import announce
from federation.cli.fleet import NODES, forks, nodes_of, prepared
from federation.delivery import logs
from federation.errors import Conflict, InvalidInput, LocalServiceError, SettingsError
from federation.local import checks, children, elsewhere, jars, state, stunnel
from federation.local.certificates import Certificates
from federation.local.home import Home, read_json, write_json
from federation.local.interrupts import Interrupts
from federation.local.lock import exclusive, holder
from federation.local.state import Phase, View
from federation.local.supervisor import Supervisor
from federation.placement.node_file import node_file
from federation.security.issuer_keys import issuer_keys
from federation.settings import in_environment, load, settings

logger = logging.getLogger(__name__)

# As long as its parts may take to end, one stage after another.
_ENDS_WITHIN_S = 60.0

Nodes = Annotated[str | None, typer.Option(metavar="NAMES", help=f"Nodes that run here, separated by commas; unset: {','.join(NODES)}.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when everything answers, and leave it running.")]
Tls = Annotated[
    bool | None, typer.Option("--tls/--no-tls", help="Speak TLS and nothing else, with the certificates of `federation tls init`; unset: as before.")
]
SHIPPED = "shipped"
CharterFile = Annotated[
    str | None,
    typer.Option(
        "--charter",
        metavar="FILE",
        help=f"Take this charter, also in other commands and later; `{SHIPPED}`: the program's own; unset: as before.",
    ),
]
StartedBy = Annotated[str, typer.Option(hidden=True)]


def _names(nodes: str) -> list[str]:
    names = list(dict.fromkeys(node_file(name.strip()).name for name in nodes.split(",") if name.strip()))
    if not names:
        raise InvalidInput("--nodes", nodes, "at least one name of a node, such as taichi")
    return names


def up(nodes: Nodes = None, detach: Detach = False, tls: Tls = None, charter_file: CharterFile = None, started_by: StartedBy = "up") -> None:
    """Start PostgreSQL, ActiveMQ, the nodes' workers, beat, Flower and the front door; Ctrl-C stops all of them, a second one at once.

    Exit code 0 also when it is running already, with these nodes.
    """
    home, asked = Home(settings().data_dir), [] if nodes is None else _names(nodes)
    if charter_file is not None:
        _remember_charter(home, None if charter_file == SHIPPED else Path(charter_file).expanduser().absolute())
    charter()
    issuer_keys(settings())
    home.create()
    if in_environment("charter"):
        errors.print(_notice("FEDERATION_CHARTER holds in this shell; for all shells and later starts: federation up --charter FILE"))
    if tls is not None:
        _remember_tls(home, tls)
    if (pid := holder(home)) is not None:
        _join(home, pid, asked, wait=detach)
        return
    names = asked or list(NODES)
    _announce_fetch()
    if detach:
        _start_detached(home, names, started_by)
        view = state.running(home)
        for notice in view.notices if view else ():
            console.print(_notice(notice))
        console.print("[bold green]The federation is running.[/]  Stop it with: federation down")
        for line in address_lines(addresses(load())):
            console.print(line)
    else:
        _run_here(home, names)


def _notice(text: str) -> str:
    return f"[yellow]{inert(text)}[/]"


def _remember_tls(home: Home, tls: bool) -> None:
    """Write it to the settings of this data directory, where all parts and commands find it. Raises Conflict while it runs otherwise."""
    if tls == settings().tls:
        return
    if holder(home) is not None:
        raise Conflict(f"the federation in {home.data_dir} is running {'with' if settings().tls else 'without'} TLS; first: federation down")
    if tls:
        Certificates(home.tls_dir).check()
    _remember(home, tls=tls)
    if settings().tls != tls:
        raise InvalidInput("--tls" if tls else "--no-tls", f"FEDERATION_TLS={str(not tls).lower()} in the environment", "that variable unset")


def _remember_charter(home: Home, file: Path | None) -> None:
    """Write it to the settings of this data directory; None is the one that ships. Raises SettingsError, Conflict while it runs with another."""
    if file is not None:
        read(file)
    if in_environment("charter") and settings().charter != file:
        raise InvalidInput("--charter", f"FEDERATION_CHARTER={settings().charter} in the environment", "that variable unset")
    if settings().charter != file and holder(home) is not None:
        raise Conflict(f"the federation in {home.data_dir} is running with {path()}; first: federation down")
    home.create()
    _remember(home, charter=None if file is None else str(file))


def _remember(home: Home, **changed: bool | str | None) -> None:
    kept = {name: value for name, value in read_json(home.settings_file).items() if name not in changed}
    write_json(home.settings_file, kept | {name: value for name, value in changed.items() if value is not None})
    settings.cache_clear()


def _join(home: Home, pid: int, asked: list[str], *, wait: bool) -> None:
    """Say that it is running already; where one `wait`s for it, when it is. Raises Conflict if it runs other nodes than those asked for, or stops."""
    with Interrupts():
        _follow(home, pid, until=(Phase.RUNNING,) if wait else tuple(Phase))
    view = state.running(home)
    if view is None or view.phase in (Phase.STOPPING, Phase.STOPPED, Phase.FAILED):
        raise Conflict(f"the federation in {home.data_dir} (pid {pid}) is stopping; try again in a moment")
    here = nodes_of(view)
    if missing := [name for name in asked if name not in here]:
        raise Conflict(
            f"the federation in {home.data_dir} is running already (pid {pid}), without {', '.join(missing)}; "
            f"to have other nodes: federation down, then federation up --nodes {','.join([*here, *missing])}"
        )
    console.print(f"The federation in {inert(str(home.data_dir))} is running already (pid {pid}). See: federation status")


def _announce_fetch() -> None:
    config = settings()
    if not elsewhere.is_elsewhere(config, "broker_url") and jars.find(config.activemq_home, config.cache_dir) is None:
        announce("ActiveMQ", jars.SIZE, config.cache_dir)
    if config.tls and not elsewhere.is_elsewhere(config, "database_url") and stunnel.find(config.cache_dir) is None:
        announce("stunnel", stunnel.SIZE, config.cache_dir)


def _run_here(home: Home, names: list[str]) -> None:
    told = False
    with exclusive(home), Display() as display:

        def show(view: View) -> None:
            nonlocal told
            display.show(view)
            if view.phase is Phase.RUNNING and not told:
                told = True
                display.say("[bold green]The federation is running.[/]  Stop it with Ctrl-C.")
                for line in address_lines(addresses(load())):
                    display.say(line)

        fleet = prepared(home, names)
        for notice in fleet.notices:
            display.say(_notice(notice))
        Supervisor(fleet.stages, home, on_change=show, notices=fleet.notices, forks=forks(home)).run()
    if not told:
        raise KeyboardInterrupt  # asked to stop before it was ready


def supervise(nodes: Annotated[str, typer.Option()], started_by: StartedBy = "up") -> None:
    """Run the supervisor without a terminal."""
    logs.configure(settings().log_level, as_json=settings().log_json)
    home = Home(settings().data_dir)
    with exclusive(home):
        fleet = prepared(home, _names(nodes))
        for notice in fleet.notices:
            logger.warning("supervisor.notice %s", notice)
        Supervisor(fleet.stages, home, started_by=started_by, notices=fleet.notices, forks=forks(home)).run()


def _start_detached(home: Home, names: list[str], started_by: str) -> None:
    home.rotate("supervisor")
    log = home.log("supervisor")
    written = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "federation.cli.main", "supervise", "--nodes", ",".join(names), "--started-by", started_by]
    supervisor = None
    with Interrupts() as interrupts:
        try:
            with log.open("ab") as output, interrupts.put_off():
                supervisor = subprocess.Popen(  # noqa: S603 - our own program
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=home.run_dir
                )
            _follow(home, supervisor.pid, until=(Phase.RUNNING,))
        except BaseException:
            # Interrupted before it was ready: nothing of ours stays.
            if supervisor is not None:
                _end(supervisor, interrupts)
            raise
    if supervisor.poll() is not None:
        said = ("\n" + log.read_bytes()[written:].decode(errors="replace").strip()).rpartition("\nfederation: ")[2].strip()
        status = supervisor.returncode
        # On a full disk it could not write why.
        said = said or checks.full_disk(home.data_dir) or ""
        raise (SettingsError if status == 2 else LocalServiceError)(said or f"the supervisor ended with status {status}; see {log}")


def _end(supervisor: "subprocess.Popen[bytes]", interrupts: Interrupts) -> None:
    """Ask the supervisor to end, and once more whenever we are asked again: then it hurries."""
    asked, deadline = interrupts.count, time.monotonic() + _ENDS_WITHIN_S
    supervisor.terminate()
    while supervisor.poll() is None and time.monotonic() < deadline:
        if interrupts.count > asked:
            asked = interrupts.count
            supervisor.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            supervisor.wait(0.1)
    if supervisor.poll() is None:
        # Its parts die with it.
        supervisor.kill()
        supervisor.wait()


def _follow(home: Home, pid: int, *, until: tuple[Phase, ...]) -> None:
    """Show what the supervisor tells, until it is that far or gone."""
    # In a pipe the table of a moment that is over is of no use.
    with Display(transient=not console.is_terminal) as display:
        while children.is_alive(pid):
            view = state.read(home)
            if view is not None and view.pid == pid:
                display.show(view)
                if view.phase in until:
                    return
            time.sleep(0.1)
