"""A door's transactions with a publisher behind them."""

from pathlib import Path

from pydantic import SecretStr

from federation.delivery.app import make
from federation.delivery.publisher import CeleryPublisher
from federation.settings import Settings
from federation.transaction import Transactions, connect

# A worker that loads torch on a busy machine may be silent for some seconds.
STALE_S = 60


def publishing(database_url: str, service_url: str, broker_url: str, data_dir: Path) -> Transactions:
    """Return transactions whose executions are sent to this broker."""
    app = make(lambda: Settings(data_dir=data_dir, broker_url=SecretStr(broker_url), database_service_url=SecretStr(service_url)))
    service = connect(service_url)
    return Transactions(connect(database_url), CeleryPublisher(app, service, stale_s=STALE_S), service=service)
