"""`federation down`: ends what `up` started, found by pid and start time; touches no other process."""

import contextlib
import os
import signal
import sys
from typing import Annotated

import typer

from federation.cli.console import console, inert
from federation.errors import LocalServiceError
from federation.local import children, state
from federation.local.home import Home
from federation.local.lock import holder
from federation.settings import settings

_STOPS_WITHIN_S = 120.0
_DIES_WITHIN_S = 10.0

MADE = "database, messages, vectors, artifacts, seals, logs, passwords"
Purge = Annotated[bool, typer.Option("--purge", help=f"Also remove all that was made: {MADE}.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before removing; without a terminal nothing is asked.")]


def down(purge: Purge = False, yes: Yes = False) -> None:
    """Stop the federation on this machine. Exit code 0 also when it was not running."""
    config = settings()
    home = Home(config.data_dir)
    if purge and not yes and sys.stdin.isatty() and home.data_dir.exists():
        typer.confirm(f"Remove all that was made in {home.data_dir}: {MADE}?", abort=True)
    if stop(home):
        console.print("Stopped.")
    else:
        console.print("The federation is not running.")
    if purge and not home.data_dir.exists():
        console.print(inert(f"There is nothing to remove in {home.data_dir}."))
    elif purge:
        left = home.purge()
        others = ", ".join(map(str, left))
        console.print(inert(f"Removed what was made in {home.data_dir}; not ours, and left: {others}" if left else f"Removed {home.data_dir}."))
        if config.cache_dir.exists():
            console.print(inert(f"Fetched programs stay in {config.cache_dir} for the next start; remove the folder to be rid of them."))


def stop(home: Home) -> bool:
    """End the federation of a data directory; return whether there was any.

    Raises LocalServiceError when something does not end.
    """
    supervisor, view = holder(home), state.read(home)
    if supervisor is None and not any(part.alive for part in (view.parts if view else ())):
        return False
    _stop(home, supervisor)
    return True


def _stop(home: Home, supervisor: int | None) -> None:
    if supervisor is not None:
        _signal(supervisor, signal.SIGTERM)
        if not children.wait_until(lambda: holder(home) is None, _STOPS_WITHIN_S):
            _signal(supervisor, signal.SIGKILL)
    # The kernel ends the parts of a supervisor that was killed; it is waited for here.
    view = state.read(home)
    parts = view.parts if view else ()
    if not children.wait_until(lambda: not any(part.alive for part in parts), _DIES_WITHIN_S):
        for part in parts:
            if part.alive and part.pid:
                children.signal_group(part.pid, signal.SIGKILL)
    if not children.wait_until(lambda: not any(part.alive for part in parts), _DIES_WITHIN_S):
        names = ", ".join(f"{part.name} ({part.pid})" for part in parts if part.alive)
        raise LocalServiceError(f"these processes do not end: {names}; end them by hand")


def _signal(pid: int, signum: int) -> None:
    # It may have ended since it was looked up.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
