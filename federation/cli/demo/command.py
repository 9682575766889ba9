"""Runs the steps in order; Ctrl-C stops what a demo started, a failed step says which effect was missing."""

import asyncio
import errno
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import typer

from federation.cli.console import console, give_up_output, print_json
from federation.cli.demo import code_search, faults, people, picture, work
from federation.cli.demo.stage import Stage, check, heading, say
from federation.cli.down import stop
from federation.cli.fleet import NODES
from federation.cli.mcp_clients import FILES, Client, configuration
from federation.local import state
from federation.local.certificates import Certificates
from federation.local.home import Home
from federation.local.interrupts import Interrupts
from federation.local.lock import holder
from federation.local.state import Phase
from federation.mcp.where import mcp_url
from federation.settings import Settings, load

_NAME = "demo"


def demo() -> None:
    """Start everything and do the main job on real input; each effect is checked in the database.

    A federation that runs here already is used as it is: the demo has agents, a conversation and documents of its own in it.
    Interrupted, the demo stops what a demo started; a step without its effect ends it with exit code 1 and leaves all running.
    """
    home = Home(load().data_dir)
    before = state.running(home)
    # One that has not told its state yet was started by somebody else just now.
    mine = before.started_by == _NAME if before else holder(home) is None
    with Interrupts() as interrupts:
        try:
            _start(home, interrupts)
            settings = load()
            asyncio.run(_play(settings))
            heading(10, "How to go on")
            _how_to_go_on(settings)
        except BaseException as error:
            if not _is_interrupt(error):
                raise
            _leave(home, mine=mine)
            raise KeyboardInterrupt from error


def _is_interrupt(error: BaseException) -> bool:
    """Say whether somebody wanted the demo to end: by a signal, or by closing the terminal or the pipe that it writes to."""
    return isinstance(error, KeyboardInterrupt | SystemExit) or (isinstance(error, OSError) and error.errno in (errno.EIO, errno.EPIPE))


def _leave(home: Home, *, mine: bool) -> None:
    told = "stopping everything, which takes some seconds." if mine else "the federation was not started by a demo, and goes on."
    try:
        console.print(f"\n[yellow]Interrupted; {told}[/]")
    except (OSError, SystemExit):
        # The terminal is gone, which must not keep us from ending what we started.
        give_up_output()
    if mine:
        stop(home)


def _start(home: Home, interrupts: Interrupts) -> None:
    heading(1, "Start PostgreSQL, ActiveMQ, three workers, beat, Flower and the front door")
    command = [sys.executable, "-m", "federation.cli.main", "up", "--detach", "--nodes", ",".join(NODES), "--started-by", _NAME]
    process = None
    try:
        # A session of its own, so that the Ctrl-C of a terminal reaches this process alone, which then stops the others in order.
        with interrupts.put_off():
            process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own program
        code = process.wait()
    except BaseException:
        if process is not None:
            process.terminate()
            process.wait()
        raise
    if code:
        # It has said why.
        raise typer.Exit(code)
    view = state.running(home)
    check(view is not None and view.phase is Phase.RUNNING, "all parts answer")
    if view is not None:
        for part in view.parts:
            say(f"{part.name:<12} {part.state}, pid {part.pid}" if part.pid else f"{part.name:<12} {part.state}")


async def _play(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        stage = Stage(settings, datetime.now(UTC), stack)
        stage.workspace.mkdir(exist_ok=True)
        await people.connect(stage)
        await code_search.index(stage)
        await code_search.ask(stage)
        await work.delegate_to_agents(stage)
        await work.delegate_to_a_node(stage)
        await work.infer(stage)
        await picture.pulse(stage)
        await picture.talk(stage)
        await picture.beat(stage)
        await faults.kill(stage)


def _how_to_go_on(settings: Settings) -> None:
    secret = settings.flower_password.get_secret_value() if settings.flower_password else ""
    program = (
        "federation"
        if os.path.dirname(sys.executable) in os.environ.get("PATH", "").split(os.pathsep)
        else f"{os.path.dirname(sys.executable)}/federation"
    )
    console.print("    The demo is done, and everything is still running.\n")
    lines = {
        "Front door": mcp_url(settings),
        "Flower": f"{'https' if settings.tls else 'http'}://127.0.0.1:{settings.flower_port}/   user {settings.flower_user}, password {secret}",
        "Add an agent": f"{program} agent add NAME --role developer",
        "Connect a client": f"{program} agent config NAME --client claude-code --token -   (or cline, continue, cursor, vscode)",
        "See what runs": f"{program} status",
        "Stop": f"{program} down   (down --purge removes all that was made)",
    }
    if settings.tls:
        lines["Clients trust"] = f"{Certificates(Home(settings.data_dir).tls_dir).authority}   (NODE_EXTRA_CA_CERTS for those on Node)"
    for name, line in lines.items():
        console.print(f"    [bold]{name:<18}[/]{line}", soft_wrap=True)
    console.print(f"\n    The lines for Claude Code, in {FILES[Client.CLAUDE_CODE]}:")
    print_json(configuration(Client.CLAUDE_CODE, url=mcp_url(settings, for_others=True), token="TOKEN-OF-NAME"))  # noqa: S106 - a place to fill in
