"""Who has no name sees nothing, of all that the main job leaves behind."""

from typing import Any

import psycopg
import pytest
from psycopg import errors

from federation.results.tables import metadata as results
from federation.store.models import Base


@pytest.mark.parametrize("name", [None, ""])
def test_who_has_no_name_sees_no_row_of_any_table(postgres: Any, database: str, name: str | None) -> None:
    seen = {}
    with psycopg.connect(postgres.as_role("federation_app", database), autocommit=True) as connection:
        if name is not None:
            connection.execute("SELECT set_config('federation.actor', %s, false)", [name])
        for table in (*Base.metadata.tables, *results.tables):
            try:
                found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            except errors.InsufficientPrivilege:
                continue
            assert found is not None
            seen[table] = found[0]
    assert {table: rows for table, rows in seen.items() if rows} == {}
    assert len(seen) > 30
