"""`federation passwords`: lists whom the parts of the program log in as, and gives new passwords to them; starts and stops nothing."""

from typing import Annotated

import typer

from federation.cli.console import console, table
from federation.errors import Conflict
from federation.local import credentials
from federation.local.home import Home
from federation.local.lock import AlreadyRunning, exclusive
from federation.settings import settings

app = typer.Typer(
    name="passwords",
    help="List whom nodes and the program's own parts log in as, and give them new passwords.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Whose; all, if none is named.")]


@app.command(name="list")
def list_() -> None:
    """List the users of the services on this machine, and no password."""
    shown = table("name", "service", "used by")
    for login in credentials.LOGINS:
        shown.add_row(login.name, login.service, login.used_by)
    console.print(shown)


@app.command()
def rotate(name: Names = None) -> None:
    """Give new passwords, and end the former ones.

    Both hold from the next start. The federation must not be running: its parts have the former ones.
    Tell the new ones to nodes on other machines, as when they were added.
    """
    home = Home(settings().data_dir)
    home.create()
    try:
        with exclusive(home):
            rotated = credentials.rotate(home, name or [login.name for login in credentials.LOGINS])
    except AlreadyRunning as error:
        raise Conflict("the federation is running with the former passwords; first: federation down") from error
    console.print(f"New passwords: {', '.join(rotated)}. They hold, and the former ones end, with: federation up")
    console.print("Clients that have one in their settings need the new one: nodes on other machines, `federation mcp`, your own tools.")
