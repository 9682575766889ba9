"""Runs the steps in order; Ctrl-C stops everything, a failed step says which effect was missing."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import FrameType

from federation.cli.console import console
from federation.cli.demo import code_search, faults, people, picture, work
from federation.cli.demo.stage import Stage, check, heading, say
from federation.errors import LocalServiceError
from federation.local import children, state
from federation.local.home import Home
from federation.local.state import Phase
from federation.settings import Settings, load


def demo() -> None:
    """Start everything and do the main job on real input; every effect is checked in the database."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _start()
        settings = load()
        asyncio.run(_play(settings))
        heading(10, "How to go on")
        _how_to_go_on(settings)
    except KeyboardInterrupt:
        # A second Ctrl-C must not leave half of it running.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        console.print("\n[yellow]Interrupted; stopping everything, which takes some seconds.[/]")
        _federation("down")
        raise


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _federation(*arguments: str) -> int:
    # A session of its own, so that the Ctrl-C of a terminal reaches this process alone, which then stops the others in order.
    process = None
    try:
        with children.uninterrupted():
            process = subprocess.Popen([sys.executable, "-m", "federation.cli.main", *arguments], start_new_session=True)  # noqa: S603 - our own program
        return process.wait()
    except KeyboardInterrupt:
        if process is not None:
            process.terminate()
            process.wait()
        raise


def _start() -> None:
    heading(1, "Start PostgreSQL, ActiveMQ, three workers, beat, Flower and the front door")
    if code := _federation("up", "--detach"):
        raise LocalServiceError(f"`federation up` ended with status {code}; see above")
    view = state.read(Home(load().data_dir))
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
        "Front door": f"http://{settings.mcp_host}:{settings.mcp_port}/mcp",
        "Flower": f"http://127.0.0.1:{settings.flower_port}/   user {settings.flower_user}, password {secret}",
        "Add an agent": f"{program} agent add NAME --role developer",
        "Connect a client": f"{program} agent config NAME --client claude-code   (or cline, continue, cursor, vscode)",
        "See what runs": f"{program} status",
        "Stop": f"{program} down   (down --purge removes all that was made)",
    }
    for name, line in lines.items():
        console.print(f"    [bold]{name:<18}[/]{line}", soft_wrap=True)
    console.print()
    _federation("agent", "config", "ada", "--client", "claude-code")
