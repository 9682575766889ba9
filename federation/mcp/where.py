"""Where the front door and the STOMP door are, as URLs that can be used from here or from elsewhere; asks nobody."""

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


def stomp_url(config: Settings, *, for_others: bool = False) -> str:
    """Return where agents that speak STOMP connect; `for_others` names this machine where their door answers on all of its addresses."""
    return f"stomp{'+ssl' if config.tls else ''}://{_host(config.stomp_host, for_others=for_others)}:{config.stomp_port}"


def _host(bound: str, *, for_others: bool) -> str:
    host = socket.gethostname() if for_others and bound in _EVERYWHERE else near(bound)
    return f"[{host}]" if ":" in host else host


def mcp_url(config: Settings, *, for_others: bool = False) -> str:
    """Return the URL of the front door; `for_others` names this machine where the door answers on all of its addresses."""
    if for_others and config.mcp_url is not None:
        return config.mcp_url
    return f"{'https' if config.tls else 'http'}://{_host(config.mcp_host, for_others=for_others)}:{config.mcp_port}{PATH}"
