"""What differs between peers as a module that Celery reads; readable by its owner alone, for it holds passwords."""

from pathlib import Path

MODULE = "peer_settings"


def write(folder: Path, *, broker_url: str, result_backend: str, durable: bool = True) -> None:
    """Write the module into the folder where the worker and the client of this peer run.

    Without `durable` messages are transient, and a publish does not wait for the broker's word.
    """
    path = folder / f"{MODULE}.py"
    path.touch(mode=0o600)
    broker_transport_options = {"confirm_publish": durable}
    task_default_delivery_mode = "persistent" if durable else "transient"
    path.write_text(f"{broker_url = }\n{result_backend = }\n{broker_transport_options = }\n{task_default_delivery_mode = }\n")
