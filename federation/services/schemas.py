"""JSON Schemas (draft 2020-12) of callers for a model's answer, and whether it fits; fetches nothing, runs no regular expression."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from federation.errors import AnswerMisfits, InvalidInput
from federation.services.storable import refuse_unstorable

LONGEST: Final = 20_000
# One of a caller's could keep a worker busy for ever, and with it the signs of life of its node.
_EXPRESSIONS: Final = ("pattern", "patternProperties")
# What stands below these are names, and no keywords.
_NAMES: Final = ("properties", "$defs", "definitions", "dependentSchemas")
_DATA: Final = ("const", "enum", "default", "examples")
_NOTHING_ELSE: Final[Registry[Any]] = Registry()


def require(schema: Mapping[str, Any]) -> None:
    """Pass for a schema that answers can be held to. Raises InvalidInput."""
    size = len(json.dumps(schema))
    if size > LONGEST:
        raise InvalidInput("schema", f"{size} characters", f"at most {LONGEST}")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "the whole"
        raise InvalidInput("schema", error.message[:300], f"a JSON Schema (at {where})") from error
    except RecursionError as error:
        raise InvalidInput("schema", "one that is too deep", "a JSON Schema") from error
    for keyword, value in _keywords(schema):
        if keyword in _EXPRESSIONS:
            raise InvalidInput("schema", keyword, "no regular expressions; enum, format of your own in the prompt, or a length will do")
        if keyword in {"$ref", "$dynamicRef"} and not str(value).startswith("#"):
            raise InvalidInput("schema", f"{keyword} {value}", "references within the schema (#/$defs/…): nothing is fetched")


def _keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, list):
        for each in schema:
            yield from _keywords(each)
    if isinstance(schema, Mapping):
        for keyword, value in schema.items():
            yield keyword, value
            if keyword in _NAMES and isinstance(value, Mapping):
                for each in value.values():
                    yield from _keywords(each)
            elif keyword not in _DATA:
                yield from _keywords(value)


def fitted(schema: Mapping[str, Any], answer: str) -> Any:
    """Return the JSON of an answer that fits. Raises AnswerMisfits with what is wrong and where."""
    try:
        data = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise AnswerMisfits(f"the answer is not JSON ({error}); more max_tokens may help, or a larger model") from error
    try:
        refuse_unstorable("answer", data)
    except InvalidInput as error:
        raise AnswerMisfits(f"the answer is JSON that cannot be kept ({error}); ask again in other words, or a larger model") from error
    try:
        wrong: ValidationError | None = best_match(Draft202012Validator(schema, registry=_NOTHING_ELSE).iter_errors(data))
    except (Unresolvable, RecursionError) as error:
        raise AnswerMisfits(f"nobody can say whether the answer fits the schema: {error}; correct its references") from error
    if wrong is not None:
        raise AnswerMisfits(f"the answer does not fit the schema: {wrong.message[:300]} (at {wrong.json_path}); ask for less, or a larger model")
    return data
