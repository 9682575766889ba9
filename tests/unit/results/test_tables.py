"""The tables are what migrations compare with."""

from federation.results.tables import metadata


def test_constraints_and_indexes_are_named() -> None:
    for table in metadata.sorted_tables:
        assert table.name.startswith("celery_")
        assert all(constraint.name for constraint in table.constraints)
        assert all(index.name for index in table.indexes)


def test_times_carry_their_zone() -> None:
    times = [column for table in metadata.sorted_tables for column in table.columns if column.name.endswith(("_at", "_done"))]
    assert times
    assert all(getattr(column.type, "timezone", False) for column in times)
