"""The two addresses of a peer as a module that Celery reads; readable by its owner alone, for it holds passwords."""

from pathlib import Path

MODULE = "peer_settings"


def write(folder: Path, *, broker_url: str, result_backend: str) -> None:
    """Write the module into the folder where the worker and the client of this peer run."""
    path = folder / f"{MODULE}.py"
    path.touch(mode=0o600)
    path.write_text(f"{broker_url = }\n{result_backend = }\n")
