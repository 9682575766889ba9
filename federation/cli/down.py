"""`federation down`: ends what `up` started, found by pid and start time; touches no other process."""

import os
import signal
import sys
from typing import Annotated

import typer

from federation.cli.console import console
from federation.errors import LocalServiceError
from federation.local import children, state
from federation.local.home import Home
from federation.local.lock import holder
from federation.settings import settings

_STOPS_WITHIN_S = 120.0
_DIES_WITHIN_S = 10.0

Purge = Annotated[bool, typer.Option("--purge", help="Remove the data directory too: database, messages, vectors, logs, passwords.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before removing.")]


def down(purge: Purge = False, yes: Yes = False) -> None:
    """Stop the federation on this machine."""
    config = settings()
    home = Home(config.data_dir)
    if purge and not yes and sys.stdin.isatty() and home.data_dir.exists():
        typer.confirm(f"Remove {home.data_dir} with everything in it?", abort=True)
    supervisor, view = holder(home), state.read(home)
    parts = view.parts if view else ()
    if supervisor is None and not any(part.alive for part in parts):
        console.print("The federation is not running.")
    else:
        _stop(home, supervisor)
        console.print("Stopped.")
    if purge:
        left = home.purge()
        console.print(f"Removed {home.data_dir}." if not left else f"Removed what was ours in {home.data_dir}; left: {', '.join(map(str, left))}")
        if config.cache_dir.exists():
            console.print(f"Fetched programs stay in {config.cache_dir} for the next start; remove the folder to be rid of them.")


def _stop(home: Home, supervisor: int | None) -> None:
    if supervisor is not None:
        os.kill(supervisor, signal.SIGTERM)
        if not children.wait_until(lambda: holder(home) is None, _STOPS_WITHIN_S):
            os.kill(supervisor, signal.SIGKILL)
    # A supervisor that was killed leaves its parts to its watchdog; what that missed ends here.
    view = state.read(home)
    parts = view.parts if view else ()
    if not children.wait_until(lambda: not any(part.alive for part in parts), _DIES_WITHIN_S):
        for part in parts:
            if part.alive and part.pid:
                children.signal_group(part.pid, signal.SIGKILL)
    if not children.wait_until(lambda: not any(part.alive for part in parts), _DIES_WITHIN_S):
        names = ", ".join(f"{part.name} ({part.pid})" for part in parts if part.alive)
        raise LocalServiceError(f"these processes do not end: {names}; end them by hand")
