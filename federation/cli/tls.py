"""`federation tls`: makes a private authority and the services' certificates, and tells when they end; starts and stops nothing."""

import json
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

import typer

from federation.cli.console import console, inert, print_json, table
from federation.local.certificates import AUTHORITY, Certificates
from federation.local.home import Home
from federation.mcp.where import is_everywhere
from federation.settings import Settings, settings

app = typer.Typer(
    name="tls",
    help="Make and show the certificates of PostgreSQL, ActiveMQ, Flower and the front door.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="NAME", help="Name or address by which clients call this machine, beside its own; may be given again."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(host: Hosts = None, as_json: AsJson = False) -> None:
    """Make certificates, signed by a private authority.

    The authority is made unless there is one. Call it again to renew them, or to add a name: clients go on to trust the authority, and
    names of before stay. What runs takes them when it starts anew.
    """
    config = settings()
    home = Home(config.data_dir)
    home.create()
    made = Certificates(home.tls_dir)
    made.make([*_known_hosts(config), *(host or ())])
    _show(made, as_json=as_json)
    if not as_json:
        console.print(f"Clients must trust {inert(str(made.authority))}; the keys beside it are for this user alone.")
        console.print("Use them: federation up --tls")


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show when the certificates end, and for which names they are."""
    _show(Certificates(Home(settings().data_dir).tls_dir), as_json=as_json)


def _known_hosts(config: Settings) -> list[str]:
    """Return the names by which the settings say that clients call the front door and the STOMP door."""
    public = urlsplit(config.mcp_url or "").hostname
    bound = [host for host in (config.mcp_host, config.stomp_host) if not is_everywhere(host)]
    # These may come with a port, and "*" stands for all.
    allowed = [urlsplit(f"//{host}").hostname for host in config.mcp_allowed_hosts if host != "*"]
    return [*bound, *filter(None, (public, *allowed))]


def _show(certificates: Certificates, *, as_json: bool) -> None:
    ends = certificates.ends()
    hosts = {name: [] if name == AUTHORITY else certificates.hosts(name) for name in ends}
    if as_json:
        shown = {name: {"file": str(certificates.certificate(name)), "ends": end.isoformat(), "hosts": hosts[name]} for name, end in ends.items()}
        print_json(json.dumps(shown, indent=2))
        return
    rows = table("certificate", "ends", "days left", "for")
    for name, end in ends.items():
        rows.add_row(name, f"{end:%Y-%m-%d}", str((end - datetime.now(UTC)).days), inert(", ".join(hosts[name])))
    console.print(rows)
