"""Each type of event has a payload of a version, and its schema is published as it is."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from federation.services.replayed_events import APPLY
from federation.services.replayed_rows import Told
from federation.store.payloads import catalogue
from tests import event_schemas

HANDED_ON = {"version": 1, "agent": "ada", "message_ids": ["6b3f8a52-0f0a-4c55-9b3c-1f0d7f0a7c11"]}


@pytest.mark.parametrize("event_type", catalogue.PAYLOADS)
def test_the_schema_of_each_type_is_published_as_the_code_has_it(event_type: str) -> None:
    published = json.loads((event_schemas.DOCS / catalogue.file_name(event_type)).read_text())
    assert published == catalogue.schema(event_type), "write it anew: python scripts/event_schemas.py"
    jsonschema.Draft202012Validator.check_schema(published)
    assert published["description"]
    assert "version" in published["required"]


def test_each_published_schema_is_of_a_type_that_there_is_and_of_no_later_version() -> None:
    for path in (event_schemas.DOCS / "reference" / "schemas").iterdir():
        event_type, version = Path(path.stem).stem, int(Path(path.stem).suffix[1:])
        assert 1 <= version <= catalogue.version(event_type)
        assert event_type in catalogue.PAYLOADS


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({"said": "noon"}, "'said' was unexpected"),
        ({"agent": None}, "None is not of type 'string'"),
        ({"message_ids": ["the first"]}, "'the first' is not a 'uuid'"),
        ({"version": 2}, "1 was expected"),
    ],
)
def test_what_does_not_fit_its_schema_is_a_flaw(change: dict[str, Any], flaw: str) -> None:
    assert event_schemas.flaws([("message.handed_on", HANDED_ON)]) == []
    [found] = event_schemas.flaws([("message.handed_on", HANDED_ON | change)])
    assert found.startswith("message.handed_on: ")
    assert flaw in found


@pytest.mark.parametrize("moment", ["2026-11-30 10:00:00+00:00", "2026-11-30T10:00:00", "noon"])
def test_a_moment_is_iso_8601_with_a_zone(moment: str) -> None:
    payload = {"version": 1, "incarnation": "6b3f8a52-0f0a-4c55-9b3c-1f0d7f0a7c11", "lost_at": "2026-11-30T10:00:00.5+00:00"}
    assert event_schemas.flaws([("node.returned", payload)]) == []
    assert event_schemas.flaws([("node.returned", payload | {"lost_at": moment})])


@pytest.mark.parametrize("form", [{"version": 3}, {"version": 2, "artifact_version": 3}], ids=["first", "second"])
def test_an_artifact_is_replayed_from_either_version_of_its_event(form: dict[str, Any]) -> None:
    told = Told("artifact.stored", "ada", "artifacts:talk", 1, "talk", {"artifact_id": "a", "name": "plan", **form})
    rows: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    APPLY["artifact.stored"](rows, told)
    assert rows["artifacts"]["a"]["version"] == 3
