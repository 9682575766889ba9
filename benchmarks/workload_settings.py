"""What differs between peers as a module that Celery reads; readable by its owner alone, for it holds passwords."""

from pathlib import Path
from typing import Any

MODULE = "peer_settings"

# What a node of the federation has too.
SAME_FOR_ALL: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "broker_connection_retry_on_startup": True,
}


def write(folder: Path, *, broker_url: str, result_backend: str, durable: bool = True) -> None:
    """Write the module into the folder where the worker and the client of this peer run.

    Without `durable` messages are transient, and a publish does not wait for the broker's word.
    """
    path = folder / f"{MODULE}.py"
    path.touch(mode=0o600)
    broker_transport_options = {"confirm_publish": durable}
    task_default_delivery_mode = "persistent" if durable else "transient"
    path.write_text(f"{broker_url = }\n{result_backend = }\n{broker_transport_options = }\n{task_default_delivery_mode = }\n")
