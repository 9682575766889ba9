"""Where the front door is, as URLs that can be used from here or from elsewhere; asks nobody."""

import socket

from federation.settings import Settings

PATH = "/mcp"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def is_everywhere(host: str) -> bool:
    """Say whether a server that binds the host answers on all addresses of this machine."""
    return host in _EVERYWHERE


def near(host: str) -> str:
    """Return the address at which this machine itself reaches a server that binds the host."""
    return _EVERYWHERE.get(host, host)


def mcp_url(config: Settings, *, for_others: bool = False) -> str:
    """Return the URL of the front door; `for_others` names this machine where the door answers on all of its addresses."""
    if for_others and config.mcp_url is not None:
        return config.mcp_url
    host = socket.gethostname() if for_others and config.mcp_host in _EVERYWHERE else near(config.mcp_host)
    return f"{'https' if config.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{config.mcp_port}{PATH}"
