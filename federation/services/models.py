"""Which models an operator trusts, for the log; their digests are kept on each machine."""

from collections.abc import Mapping

from sqlalchemy.orm import Session

from federation.store import event_log


def record_added(session: Session, name: str, *, machine: str, root: str, files: Mapping[str, str]) -> None:
    """Record that the calling operator trusts the files of a model as they lie on a machine: each one's SHA-256 by its path below `root`."""
    payload = {"name": name, "machine": machine, "root": root, "files": dict(files)}
    event_log.append(session, "model.added", f"model:{name}", payload=payload)
