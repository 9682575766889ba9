"""What is wrong with payloads of events, held against the schemas that are published: no field may be missing, odd or undeclared."""

import json
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from federation.store.payloads import catalogue

DOCS = Path(__file__).parents[1] / "docs"
_FORMATS = jsonschema.FormatChecker(["uuid"])


@_FORMATS.checks("date-time", raises=ValueError)
def _has_a_zone(value: object) -> bool:
    return not isinstance(value, str) or ("T" in value and datetime.fromisoformat(value).tzinfo is not None)


def flaws(told: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return what is wrong, each with the event's type; types that only tests append are not looked at."""
    found = (_flaws(type_, json.dumps(payload, sort_keys=True)) for type_, payload in told if type_ in catalogue.PAYLOADS)
    return [flaw for each in found for flaw in each]


@cache
def _flaws(event_type: str, payload: str) -> tuple[str, ...]:
    return tuple(f"{event_type}: {error.json_path}: {error.message}" for error in _validator(event_type).iter_errors(json.loads(payload)))


@cache
def _validator(event_type: str) -> jsonschema.Draft202012Validator:
    published = json.loads((DOCS / catalogue.file_name(event_type)).read_text())
    return jsonschema.Draft202012Validator(_closed(published), format_checker=_FORMATS)


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _closed(value) for name, value in schema.items()}
    return found | {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else found
