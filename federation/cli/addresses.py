"""Where the services are, as URLs that can be used from here or from elsewhere; asks nobody."""

import socket

from federation.settings import Settings

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def near(host: str) -> str:
    """Return the address at which this machine itself reaches a server that binds the host."""
    return _EVERYWHERE.get(host, host)


def mcp_url(config: Settings, *, for_others: bool = False) -> str:
    """Return the URL of the front door; `for_others` names this machine where the door answers on all of its addresses."""
    host = socket.gethostname() if for_others and config.mcp_host in _EVERYWHERE else near(config.mcp_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{config.mcp_port}/mcp"


def addresses(config: Settings) -> dict[str, str | None]:
    """Return where each service is, with passwords; None for what has not been set up."""
    database = config.database_url.get_secret_value() if config.database_url else None
    login = f"{config.flower_user}:{config.flower_password.get_secret_value()}@" if config.flower_password else ""
    return {
        "broker_url": config.broker_url.get_secret_value() if config.broker_url else None,
        "database_url": database,
        "database_auditor_url": config.database_auditor_url.get_secret_value() if config.database_auditor_url else None,
        "result_backend": f"pgnotify+{database}" if database else None,
        "mcp_url": mcp_url(config),
        "flower_url": f"http://{login}127.0.0.1:{config.flower_port}/",
        "data_dir": str(config.data_dir),
    }
