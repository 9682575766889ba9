"""Where the services are, as URLs that can be used from here; asks nobody."""

from federation.mcp.where import mcp_url, stomp_url
from federation.settings import Settings


def addresses(config: Settings) -> dict[str, str | None]:
    """Return where each service is, with passwords; None for what has not been set up."""
    database = config.database_url.get_secret_value() if config.database_url else None
    login = f"{config.flower_user}:{config.flower_password.get_secret_value()}@" if config.flower_password else ""
    return {
        "broker_url": config.broker_url.get_secret_value() if config.broker_url else None,
        "broker_observer_url": config.broker_observer_url.get_secret_value() if config.broker_observer_url else None,
        "database_url": database,
        "database_auditor_url": config.database_auditor_url.get_secret_value() if config.database_auditor_url else None,
        "result_backend": f"pgnotify+{database}" if database else None,
        "mcp_url": mcp_url(config),
        "stomp_url": stomp_url(config),
        "flower_url": f"{'https' if config.tls else 'http'}://{login}127.0.0.1:{config.flower_port}/",
        "data_dir": str(config.data_dir),
    }
