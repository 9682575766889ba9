"""Says in words which argument of a tool does not fit: its name, what it got, and what it wants, read from the tool's schema."""

import difflib
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from federation.mcp.tools.arguments import NOT_BLANK
from federation.services import artifacts, resources
from federation.services.names import PATTERN, WANTED

_LONGEST_SHOWN = 80
_PATTERNS = {
    f"^{PATTERN}$": WANTED,
    "^/": "an absolute path",
    resources.PATTERN: resources.WANTED,
    f"^{artifacts.MEDIA_TYPE}$": artifacts.WANTED_TYPE,
    "^[0-9a-f]{64}$": "a SHA-256 in 64 hexadecimal digits, as an earlier call returned it",
}


def misfit(problem: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return one problem that pydantic found with the arguments of the tool of this schema."""
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        known = list(schema.get("properties", ()))
        nearest = difflib.get_close_matches(name, known, cutoff=0.4) or known
        return f"no argument {shown(name)}; " + (f"nearest: {', '.join(nearest)}" if nearest else "this tool takes none")
    got = "nothing" if problem["type"].startswith("missing") else shown(problem["input"])
    found = _at(schema, problem["loc"])
    return f"{name}: got {got}, wants {wanted(found) if found else problem['msg']}"


def shown(value: Any) -> str:
    """Return a value as an error may repeat it: short."""
    if isinstance(value, str) and len(value) > _LONGEST_SHOWN:
        return f"{value[:40]!r}… ({len(value)} characters)"
    text = repr(value) if isinstance(value, str | int | float) and not (isinstance(value, int) and abs(value) > 10**30) else None
    return text or ("a number that is too large" if isinstance(value, int) else reprlib.repr(value))


def _at(schema: Mapping[str, Any], place: tuple[Any, ...]) -> Mapping[str, Any] | None:
    """Return the schema of one argument, or of an element of it."""
    found: Mapping[str, Any] | None = schema
    for part in place:
        if found is None:
            return None
        options = [found, *found.get("anyOf", ())]
        inner = (each.get("items") if isinstance(part, int) else each.get("properties", {}).get(part) for each in options)
        found = next((each for each in inner if each is not None), None)
    return found


def wanted(schema: Mapping[str, Any]) -> str:
    """Return in words what a schema asks for."""
    kinds = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if kinds:
        return " or ".join(map(wanted, kinds))
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    return _WORDS[schema["type"]](schema)


def _number(schema: Mapping[str, Any]) -> str:
    return ("a whole number" if schema["type"] == "integer" else "a number") + _range(schema)


def _list(schema: Mapping[str, Any]) -> str:
    most = f" of at most {schema['maxItems']}" if "maxItems" in schema else ""
    return f"a list{most}, each {wanted(schema['items'])}"


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        return ""
    if high is None or high >= 2**53:
        return f", {low:g} or more"
    return f" from {low:g} to {high:g}" if low is not None else f", at most {high:g}"


def _text(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "uuid":
        return "a UUID, as an earlier call returned it"
    if schema.get("format") == "date-time":
        return "a date and time with a zone, such as 2030-01-31T18:00:00+01:00, from 1970 to 9998"
    words = _PATTERNS.get(schema.get("pattern", ""), "a text")
    if schema.get("pattern") == NOT_BLANK:
        words += " that is not empty"
    return words + (f", at most {schema['maxLength']} characters" if "maxLength" in schema else "")


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "integer": _number,
    "number": _number,
    "boolean": lambda _: "true or false",
    "object": lambda _: "an object",
    "array": _list,
    "string": _text,
}
