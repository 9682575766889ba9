"""`federation up`: starts everything on this machine and keeps it running; a second one changes nothing."""

import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Annotated

import typer
from rich.live import Live

from federation.cli.console import console, view_table
from federation.cli.fleet import NODES, stages
from federation.cli.status import print_addresses
from federation.errors import InvalidInput, LocalServiceError
from federation.local import children, jars, state
from federation.local.home import Home
from federation.local.lock import AlreadyRunning, exclusive, holder
from federation.local.state import Phase, View
from federation.local.supervisor import Supervisor
from federation.placement.node_file import node_file
from federation.settings import load, settings

_ALL = ",".join(NODES)

Nodes = Annotated[str, typer.Option(help="Nodes that run here, separated by commas.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when everything answers, and leave it running.")]


def _names(nodes: str) -> list[str]:
    names = list(dict.fromkeys(node_file(name.strip()).name for name in nodes.split(",") if name.strip()))
    if not names:
        raise InvalidInput("--nodes", nodes, "at least one name of a node, such as taichi")
    return names


def up(nodes: Nodes = _ALL, detach: Detach = False) -> None:
    """Start PostgreSQL, ActiveMQ, the nodes' workers, beat, Flower and the front door; Ctrl-C stops all of them.

    Exit code 0 also when it is running already.
    """
    home, names = Home(settings().data_dir), _names(nodes)
    home.create()
    if _is_running(home):
        return
    _announce_fetch()
    if detach:
        _start_detached(home, names)
        console.print("[bold green]The federation is running.[/]  Stop it with: federation down")
        print_addresses(load())
    else:
        _run_here(home, names)


def _is_running(home: Home) -> bool:
    pid = holder(home)
    if pid is None:
        return False
    console.print(f"The federation in {home.data_dir} is running already (pid {pid}). See: federation status")
    return True


def _announce_fetch() -> None:
    if settings().broker_url is None and jars.find(settings().activemq_home, settings().cache_dir) is None:
        console.print(f"Fetching ActiveMQ from Debian's packages into {settings().cache_dir} ({jars.SIZE}, once).")


def _run_here(home: Home, names: list[str]) -> None:
    try:
        with exclusive(home), Live(view_table(None), console=console, refresh_per_second=4, transient=False) as live:
            told = False

            def show(view: View) -> None:
                nonlocal told
                live.update(view_table(view))
                if view.phase is Phase.RUNNING and not told:
                    told = True
                    live.console.print("[bold green]The federation is running.[/]  Stop it with Ctrl-C.")
                    print_addresses(load())

            Supervisor(stages(home, names), home, on_change=show).run()
        if not told:
            raise KeyboardInterrupt  # asked to stop before it was ready
    except AlreadyRunning as error:
        console.print(str(error))


def supervise(nodes: Nodes) -> None:
    """Run the supervisor without a terminal."""
    home = Home(settings().data_dir)
    with exclusive(home):
        Supervisor(stages(home, _names(nodes)), home).run()


def _start_detached(home: Home, names: list[str]) -> None:
    home.rotate("supervisor")
    log = home.log("supervisor")
    written = log.stat().st_size if log.exists() else 0
    before = signal.signal(signal.SIGTERM, _interrupt)
    supervisor = None
    try:
        with log.open("ab") as output, children.uninterrupted():
            supervisor = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "federation.cli.main", "supervise", "--nodes", ",".join(names)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=home.run_dir,
            )
        _follow(home, supervisor)
    except BaseException:
        # Interrupted before it was ready: nothing of ours stays.
        if supervisor is not None:
            children.stop(supervisor, signal.SIGTERM, grace_s=60.0)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if supervisor.poll() is not None:
        said = log.read_bytes()[written:].decode(errors="replace").strip().removeprefix("federation: ")
        raise LocalServiceError(said or f"the supervisor ended with status {supervisor.returncode}; see {log}")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _follow(home: Home, supervisor: subprocess.Popen[bytes]) -> None:
    with Live(view_table(None), console=console, refresh_per_second=8, transient=not console.is_terminal) as live:
        while supervisor.poll() is None:
            view = state.read(home)
            if view is not None and view.pid == supervisor.pid:
                live.update(view_table(view))
                if view.phase is Phase.RUNNING:
                    return
            time.sleep(0.1)
