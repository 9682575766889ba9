"""What people give to commands: text and JSON in place, in a file or on standard input, pairs, and moments; refuses what could not be kept."""

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from federation.errors import InvalidInput
from federation.services.storable import LONGEST_TEXT, refuse_unstorable

STDIN = "-"
# Lines that everybody sees in the pulse.
LONGEST_LINE = 1_000
# A character has at most so many bytes; of more nothing is read, because it is too much in any case.
_MOST_BYTES = 4 * LONGEST_TEXT + 1
_A_MOMENT = "a time such as 14:05, or a date and time such as 2030-01-31T14:05, from 1970 to 9998"


def text(field: str, given: str) -> str:
    """Return a text, that of standard input for `-`, without the break at its end. Raises InvalidInput."""
    found = _decoded(field, given, sys.stdin.buffer).removesuffix("\n") if given == STDIN else given
    return kept(field, found)


def kept(field: str, given: str, *, longest: int = LONGEST_TEXT) -> str:
    """Return a text that can be kept. Raises InvalidInput."""
    refuse_unstorable(field, given)
    if len(given) > longest:
        raise InvalidInput(field, f"{len(given)} characters", f"at most {longest}; put what is longer into a file")
    return given


def json_object(field: str, given: str, *, such_as: str) -> dict[str, Any]:
    """Return a JSON object, given as it is, as @FILE, or as `-` for standard input. Raises InvalidInput."""
    written = _read(field, given)
    try:
        found = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(field, written, f"a JSON object ({error})") from error
    if not isinstance(found, dict):
        raise InvalidInput(field, written, f"a JSON object, such as {such_as}")
    refuse_unstorable(field, found)
    return found


def parameters(given: Iterable[str]) -> dict[str, str]:
    """Return inputs that were given as NAME=VALUE. Raises InvalidInput."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name or name in found:
            raise InvalidInput("--parameter", each, "NAME=VALUE, each name once")
        found[name] = value
    return found


def weights(field: str, given: Iterable[str]) -> dict[str, float] | None:
    """Return weights that were given as NAME=NUMBER, None for none. Raises InvalidInput."""
    found = {}
    for one in given:
        name, equals, number = one.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise InvalidInput(field, one, "a name and a number, such as ada=2.5")
    return found or None


def moment(field: str, given: str) -> datetime:
    """Return a moment, of this machine's clock where it names no zone. Raises InvalidInput."""
    try:
        if "-" not in given:
            return datetime.combine(datetime.now().astimezone().date(), datetime.strptime(given, "%H:%M").time()).astimezone()
        found = datetime.fromisoformat(given)
        found = found if found.tzinfo else found.astimezone()
    except (ValueError, OverflowError) as error:
        raise InvalidInput(field, given, _A_MOMENT) from error
    # Beyond these conversions between time zones overflow.
    if not 1970 <= found.year <= 9998:
        raise InvalidInput(field, given, _A_MOMENT)
    return found


def _read(field: str, given: str) -> str:
    if given == STDIN:
        return _decoded(field, given, sys.stdin.buffer)
    if not given.startswith("@"):
        return given
    try:
        with Path(given[1:]).open("rb") as file:
            return _decoded(field, given, file)
    except (OSError, ValueError) as error:
        raise InvalidInput(field, given, f"a file that can be read ({error})") from error


def _decoded(field: str, given: str, source: BinaryIO) -> str:
    read = source.read(_MOST_BYTES)
    if len(read) == _MOST_BYTES:
        raise InvalidInput(field, given, f"at most {LONGEST_TEXT} characters; put what is longer into a file")
    try:
        return read.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(field, given, f"text in UTF-8 ({error.reason} at byte {error.start})") from error
