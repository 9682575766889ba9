"""Which names may be given to agents, conversations and tasks."""

import re

from federation.errors import InvalidInput

PATTERN = "[A-Za-z0-9][A-Za-z0-9._:/@-]{0,99}"
WANTED = "1 to 100 letters, digits and . _ : / @ -, the first a letter or digit"
# `/queue/federation.<name>` would collide with the destinations of nodes, events and the broadcast; a message to `any` is for no one agent.
_RESERVED = frozenset({"any", "node", "events", "broadcast"})


def valid_agent(name: str) -> str:
    """Return the name of an agent. Raises InvalidInput."""
    if name.lower() in _RESERVED or ":" in name or not re.fullmatch(PATTERN, name):
        wanted = WANTED.replace(": ", "")
        raise InvalidInput("name", name, f"{wanted}, without ':' and not one of {', '.join(sorted(_RESERVED))}")
    return name


def valid_slug(field: str, value: str) -> str:
    """Return a slug or a UUID that a caller chose. Raises InvalidInput."""
    if not re.fullmatch(PATTERN, value):
        raise InvalidInput(field, value, WANTED)
    return value
