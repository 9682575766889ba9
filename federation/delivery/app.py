"""The Celery application of this process, configured from the settings at its first use; knows no task."""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import click
from celery import Celery

import federation.broker
from federation.errors import SettingsError
from federation.settings import Settings, settings

# Celery's name of a queue and ActiveMQ's: `taichi` is /queue/federation.node.taichi.
QUEUE_PREFIX = "federation.node."
# What a worker without -Q would consume. Nothing is sent there.
UNROUTED = "unrouted"

# A door must not wait longer than this for a dead broker after its commit.
CONNECT_S = 4.0
CONFIRM_S = 5.0

# Celery cuts the scheme at the plus.
BACKENDS = {"pgnotify": "federation.results.backend:PostgresBackend"}

assert federation.broker  # imported for its side effect: kombu then knows activemq://


def database_url(given: Settings) -> str:
    """Return the URL of PostgreSQL for what agents ask for, whose role sees what they may see. Raises SettingsError if it is not set."""
    if given.database_url is None:
        raise SettingsError("FEDERATION_DATABASE_URL is not set: start `federation up`, or name a PostgreSQL")
    return given.database_url.get_secret_value()


def service_url(given: Settings) -> str:
    """Return the URL of PostgreSQL for the program's own work: delivery, results, beat, operators. Raises SettingsError if it is not set."""
    if given.database_service_url is None:
        raise SettingsError("FEDERATION_DATABASE_SERVICE_URL is not set: start `federation up`, or name a PostgreSQL as the role federation_service")
    return given.database_service_url.get_secret_value()


def configuration(given: Settings) -> dict[str, Any]:
    """Return Celery's configuration. Raises SettingsError if the broker or the database is not set."""
    if given.broker_url is None:
        raise SettingsError(
            "FEDERATION_BROKER_URL is not set: start `federation up`, or name an ActiveMQ, such as activemq://user:password@host:61613/"
        )
    return {
        "broker_url": given.broker_url.get_secret_value(),
        # Our ActiveMQ has no scheduler: what is sent with a time waits in a worker, unacknowledged.
        "broker_transport_options": {"queue_prefix": QUEUE_PREFIX, "confirm_timeout": CONFIRM_S, "max_retries": 0, "schedule_eta": False},
        "broker_connection_timeout": CONNECT_S,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": "pgnotify+" + service_url(given),
        "result_expires": given.result_expires_s,
        "result_extended": True,
        "result_serializer": "json",
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_time_limit": given.time_limit_s,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # `running` is derived from the deliveries, so STARTED would only be one more statement a task.
        "task_track_started": False,
        "task_default_queue": UNROUTED,
        "task_routes": ("federation.delivery.routing:route",),
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
        # Celery waits this long for the last words of a child that was killed, before its execution is given back.
        "worker_lost_wait": 1.0,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": True,
        "worker_consumer": "federation.delivery.consumer:QuarantiningConsumer",
        "beat_scheduler": "federation.delivery.beat:FederationScheduler",
        "beat_max_loop_interval": 1.0,
        "enable_utc": True,
    }


def make(read: Callable[[], Settings]) -> Celery:
    """Return an application with these settings, which are read when its configuration is first looked at."""
    app: Any = Celery(
        "federation",
        task_cls="federation.delivery.task:FederationTask",
        amqp="federation.delivery.amqp:SigningAMQP",
        control="federation.delivery.control:FederationControl",
    )
    # For whoever signs: where the keys lie, and who must know them.
    app.federation_settings = read
    app.add_defaults(lambda: _configured(read))
    # The entry point says the same, but only once the package is installed.
    app.loader.override_backends = BACKENDS
    made: Celery = app
    return made


_LOADING = threading.Lock()


def load(app: Celery) -> None:
    """Load an application's configuration, if that is not done: of threads that are the first to look at it, Celery shows some the half of it.

    Raises SettingsError.
    """
    with _LOADING:
        app.conf.get("result_backend")


def _configured(read: Callable[[], Settings]) -> dict[str, Any]:
    try:
        return configuration(read())
    except SettingsError as error:
        if click.get_current_context(silent=True) is None:
            raise
        # On the command line: one line instead of a traceback.
        raise click.ClickException(str(error)) from error


@cache
def application() -> Celery:
    """Return the application of this process."""
    return make(settings)
