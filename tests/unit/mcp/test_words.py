"""What an agent reads of an argument that does not fit."""

from typing import Any

import pytest

from federation.mcp.words import misfit, shown, wanted
from federation.services import resources

SCHEMA = {
    "properties": {
        "wait_s": {"type": "number", "minimum": 0, "maximum": 600},
        "tags": {"anyOf": [{"type": "array", "maxItems": 20, "items": {"type": "string", "pattern": "^/"}}, {"type": "null"}]},
    }
}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "number", "minimum": 0, "maximum": 600}, "a number from 0 to 600"),
        ({"type": "integer", "minimum": 1, "exclusiveMaximum": 2**63}, "a whole number, 1 or more"),
        ({"type": "integer", "maximum": 5}, "a whole number, at most 5"),
        ({"type": "integer"}, "a whole number"),
        ({"enum": ["chat", "task"], "type": "string"}, "one of chat, task"),
        ({"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]}, "a UUID, as an earlier call returned it"),
        ({"type": "string", "pattern": r"\S", "maxLength": 9}, "a text that is not empty, at most 9 characters"),
        ({"type": "string", "pattern": resources.PATTERN}, resources.WANTED),
        ({"type": "boolean"}, "true or false"),
        ({"type": "object"}, "an object"),
    ],
)
def test_what_is_wanted_is_read_from_the_schema(schema: dict[str, Any], says: str) -> None:
    assert wanted(schema) == says


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        ({"loc": ("wait_s",), "type": "float_parsing", "input": "soon"}, "wait_s: got 'soon', wants a number from 0 to 600"),
        ({"loc": ("tags", 1), "type": "string_type", "input": 5}, "tags.1: got 5, wants an absolute path"),
        ({"loc": ("wait",), "type": "unexpected_keyword_argument", "input": 1}, "no argument 'wait'; nearest: wait_s"),
        ({"loc": ("wait_s",), "type": "missing_argument", "input": None}, "wait_s: got nothing, wants a number from 0 to 600"),
        ({"loc": ("else",), "type": "odd", "input": None, "msg": "something odd"}, "else: got None, wants something odd"),
    ],
)
def test_a_misfit_names_the_place_what_it_got_and_what_it_wants(problem: dict[str, Any], says: str) -> None:
    assert misfit(problem, SCHEMA) == says


@pytest.mark.parametrize("value", ["x" * 10**6, 10**5000, ["x" * 10**6] * 1000, {"a": {"b": "c" * 10**6}}], ids=["text", "number", "list", "object"])
def test_what_was_got_is_repeated_in_short(value: object) -> None:
    assert len(shown(value)) < 200
