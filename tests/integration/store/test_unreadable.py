"""What PostgreSQL holds and Python has no value for, as only SQL beside the program writes it, is read as something near, and hides no other row."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from federation.store.unreadable import EARLIEST, LATEST
from federation.transaction import connect

MOMENT = datetime(2026, 11, 30, 18, 1, 2, 345678, tzinfo=UTC)


def read(postgres: Any, database: str, expression: str) -> list[Any]:
    engine = connect(postgres.as_role("federation_service", database))
    try:
        with engine.connect() as connection:
            query = f"SELECT found FROM (VALUES (1, {expression}), (2, NULL)) rows (number, found) ORDER BY number"
            return list(connection.scalars(text(query)))
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("'infinity'", LATEST),
        ("'-infinity'", EARLIEST),
        ("'0044-03-15 BC'", EARLIEST),
        ("'12026-01-01'", LATEST),
        ("'2026-11-30 18:01:02.345678+00'", MOMENT),
        ("NULL", None),
    ],
)
def test_a_moment_that_python_does_not_know_is_the_nearest_that_it_knows(postgres: Any, database: str, expression: str, found: Any) -> None:
    assert read(postgres, database, f"CAST({expression} AS timestamptz)") == [found, None]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("'{\"a\": 1e10000}'", None),
        ("repeat('[', 3000) || repeat(']', 3000)", None),
        ("'{\"a\": [1, 2.5, null]}'", {"a": [1, 2.5, None]}),
        ("'null'", None),
    ],
)
def test_json_that_python_does_not_read_is_an_object_that_says_so(postgres: Any, database: str, expression: str, found: Any) -> None:
    [told, other] = read(postgres, database, f"CAST({expression} AS jsonb)")
    assert other is None
    if found is None and expression != "'null'":
        assert list(told) == ["unreadable"]
    else:
        assert told == found
