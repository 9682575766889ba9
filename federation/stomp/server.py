"""Serves STOMP to agents in one process: reads the settings and binds the port."""

import asyncio
import gc
import signal

import anyio

from federation.delivery import logs
from federation.errors import SettingsError
from federation.local.certificates import DOOR, usable
from federation.local.elsewhere import check_database
from federation.local.ports import listen
from federation.mcp.callers import Callers
from federation.security.issuer_keys import issuer_keys
from federation.settings import Settings, settings
from federation.stomp.door import Door
from federation.stomp.upstream import Upstream
from federation.transaction import Silent, Transactions, connect

# Each with a connection to PostgreSQL: to look up who logs in, and every other second who still may.
THREADS = 2
CLOSES_WITHIN_S = 5.0


def serve() -> None:
    """Serve until a signal ends it.

    Raises SettingsError, DatabaseUnavailable, LocalServiceError for a taken port.
    """
    config = settings()
    logs.configure(config.log_level, as_json=config.log_json)
    check_database(config, "database_service_url")
    asyncio.run(_serve(config))


async def _serve(config: Settings) -> None:
    # It was just looked at.
    assert config.database_service_url is not None
    if config.broker_url is None:
        raise SettingsError("FEDERATION_BROKER_URL is not set: start `federation up`, or name an ActiveMQ as the user `stomp`")
    certificates = usable(config)
    context = certificates.server_context(DOOR) if certificates else None
    transactions = Transactions(connect(config.database_service_url.get_secret_value(), most=THREADS), Silent())
    limiter = anyio.CapacityLimiter(THREADS)
    door = Door(transactions, limiter, _callers(config, transactions, limiter), Upstream(config.broker_url.get_secret_value()))
    ended = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, ended.set)
    listening = listen(config.stomp_host, config.stomp_port, whose="STOMP")
    accepting = asyncio.ensure_future(door.accept(listening, context))
    # What is there by now stays, and need not be looked through again and again.
    gc.freeze()
    watching = asyncio.ensure_future(door.watch())
    await ended.wait()
    accepting.cancel()
    listening.close()
    watching.cancel()
    door.end()
    await asyncio.wait({task for task in asyncio.all_tasks() if task is not asyncio.current_task()}, timeout=CLOSES_WITHIN_S)


def _callers(config: Settings, transactions: Transactions, limiter: anyio.CapacityLimiter) -> Callers:
    keys = issuer_keys(config)
    if keys is None:
        return Callers(transactions, limiter)
    # It loads FastMCP, for which who takes no JWTs has no use.
    from federation.mcp.issuer import Issuer  # noqa: PLC0415

    return Callers(transactions, limiter, issuer=Issuer(config, keys))
