"""Ids that follow from what they are of: a second recording is the same one, and whoever signs knows them beforehand."""

import json
import uuid

_NAMESPACE = uuid.UUID("6f0d3f0e-7c0c-5a55-9a53-0f4d2f1c8b11")


def fixed_id(*parts: object) -> uuid.UUID:
    """Return the same id for the same parts, always."""
    return uuid.uuid5(_NAMESPACE, "/".join(str(part) for part in parts))


def named_id(kind: str, *names: str) -> uuid.UUID:
    """Return the id of what has a name: a message or a task by conversation, author and name."""
    # As JSON, because names may contain whatever would separate them.
    return fixed_id(kind, json.dumps(names))
