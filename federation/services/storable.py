"""What of what a caller sent can be kept: text and numbers that PostgreSQL takes, not too deep and not too long."""

import json
import math
from typing import Any

from federation.errors import InvalidInput

# Longer texts belong into files: every reader's model would have to read them.
LONGEST_TEXT = 100_000
# PostgreSQL, and each that reads it back, takes JSON apart level by level.
DEEPEST = 32


def refuse_unstorable(name: str, value: Any, *, depth: int = 0) -> None:
    """Pass if PostgreSQL can keep all of it. Raises InvalidInput that names the place."""
    if depth > DEEPEST:
        raise InvalidInput(name.partition(".")[0], f"an object of more than {DEEPEST} levels", f"at most {DEEPEST} levels")
    if isinstance(value, str):
        if "\0" in value or not _is_whole(value):
            # Not what it says: the refusal is logged, and that may be for nobody else.
            raise InvalidInput(name, f"{len(value)} characters", "text without NUL and without halves of characters")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(name, value, "a finite number")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InvalidInput(name, "a number that is too large", "a number of at most 63 bits")
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            place = f"{name}.{key[:40] if isinstance(key, str) else key}"
            refuse_unstorable(place, key, depth=depth + 1)
            refuse_unstorable(place, item, depth=depth + 1)
        if depth == 0 and (length := len(json.dumps(value, ensure_ascii=False))) > LONGEST_TEXT:
            wants = f"at most {LONGEST_TEXT} characters as JSON; put what is longer into a file"
            raise InvalidInput(name, f"{length} characters", wants)


def _is_whole(value: str) -> bool:
    """Say whether a text has no halves of characters; some texts have millions."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
