"""Schemas that callers give: which are taken, and which answers fit them."""

from typing import Any

import pytest

from federation.errors import AnswerMisfits, InvalidInput
from federation.services import schemas

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 10}, "pattern": {"type": "integer"}, "of": {"$ref": "#/$defs/place"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"place": {"enum": ["here", {"pattern": "is data"}]}},
}


def test_answer_that_fits_is_returned_as_data() -> None:
    schemas.require(PERSON)
    assert schemas.fitted(PERSON, ' {"name": "Ada", "pattern": 3, "of": "here"}\n') == {"name": "Ada", "pattern": 3, "of": "here"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Her name is Ada.", "is not JSON"),
        ('{"name": "Ad', "is not JSON .*more max_tokens may help"),
        ('{"pattern": 3}', r"'name' is a required property \(at \$\)"),
        ('{"name": "Ada", "of": "there"}', r"'there' is not one of .* \(at \$\.of\)"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_answer_that_does_not_fit_is_told_with_the_place(answer: str, said: str) -> None:
    with pytest.raises(AnswerMisfits, match=said):
        schemas.fitted(PERSON, answer)


@pytest.mark.parametrize("answer", [r'"a\u0000b"', r'{"\ud800": 1}', "NaN", "[" * 40 + "]" * 40])
def test_json_that_nobody_can_keep_or_hand_on_fits_nothing(answer: str) -> None:
    with pytest.raises(AnswerMisfits, match="the answer is JSON that cannot be kept"):
        schemas.fitted({}, answer)


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"not": found}
    return found


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "wrong"}, r"a JSON Schema \(at type\)"),
        ({"properties": {"a": {"pattern": "(a+)+$"}}}, "schema: got 'pattern', wants no regular expressions"),
        ({"anyOf": [{"patternProperties": {"(a+)+$": {}}}]}, "got 'patternProperties'"),
        ({"items": {"$ref": "http://127.0.0.1:1/schema.json"}}, "nothing is fetched"),
        ({"enum": ["x" * 20_000]}, "characters', wants at most 20000"),
        (deep(900), "schema: got"),
    ],
)
def test_schema_that_nobody_should_be_held_to_is_refused(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        schemas.require(schema)


def test_schema_whose_reference_leads_nowhere_fits_nothing() -> None:
    schemas.require({"$ref": "#/$defs/nowhere"})
    with pytest.raises(AnswerMisfits, match="correct its references"):
        schemas.fitted({"$ref": "#/$defs/nowhere"}, "1")
    schemas.require({"$ref": "#"})
    with pytest.raises(AnswerMisfits, match="nobody can say"):
        schemas.fitted({"$ref": "#"}, "1")
