"""What lets one node in, as a file of variables that a shell, systemd and Docker read; knows passwords, and keeps none of them anywhere else."""

import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from federation.local import node_roles
from federation.local.activemq import user_of_node
from federation.local.certificates import Certificates, write_secret
from federation.local.home import Home
from federation.settings import Settings, variable

# What the node may at each of its two URLs of PostgreSQL.
_ROLES = {"database_url": "federation_app", "database_service_url": "federation_service"}


def variables(config: Settings, node: str, *, database: str, broker: str) -> dict[str, str]:
    """Return the node's variables with these two passwords; the URLs, and what they say of TLS, are those of the settings here."""
    urls = {"broker_url": ";".join(_as(url, user_of_node(node), broker) for url in _given(config, "broker_url").split(";"))}
    urls |= {name: _as(_given(config, name), node_roles.name_of(node, role), database) for name, role in _ROLES.items()}
    return {variable(name): url for name, url in urls.items()}


def write(home: Home, node: str, content: Mapping[str, str], ends: datetime | None, certificates: Certificates | None) -> Path:
    """Write the node's file, readable by this user alone, and return its path."""
    lines = [f"# What lets the node {node} in{f', until {ends:%Y-%m-%d %H:%M %Z}' if ends else ''}: for the user of its worker alone."]
    if certificates:
        lines.append(f"# It trusts {certificates.authority}: copy that file, and no other of its folder, to this path there, or name another.")
    lines += [f"{name}={shlex.quote(value)}" for name, value in content.items()]
    home.nodes_dir.mkdir(mode=0o700, exist_ok=True)
    write_secret(path(home, node), "".join(f"{line}\n" for line in lines).encode())
    return path(home, node)


def path(home: Home, node: str) -> Path:
    """Return where the file of a node is, or would be."""
    return home.nodes_dir / f"{node}.env"


def _given(config: Settings, name: str) -> str:
    url = getattr(config, name)
    assert url is not None
    return str(url.get_secret_value())


def _as(url: str, user: str, password: str) -> str:
    parts = urlsplit(url.strip())
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()
