"""What a search may look at, as a filter of LanceDB, where every value is quoted and none is spliced as it came, and as tests of values."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass


def quoted(value: str) -> str:
    """Return a literal of LanceDB's filter language."""
    return "'" + value.replace("'", "''") + "'"


def one_of(column: str, values: Collection[str]) -> str:
    """Return the condition that `column` is one of `values`; with none of them it never holds."""
    return f"{column} IN ({', '.join(quoted(value) for value in sorted(values))})" if values else "false"


@dataclass(frozen=True, slots=True)
class Scope:
    """Limits of a search, all of which must hold; None is no limit, an empty collection lets nothing through."""

    document_ids: Collection[str] | None = None
    collections: Collection[str] | None = None
    kinds: Collection[str] | None = None
    path_prefix: str | None = None
    suffixes: Collection[str] | None = None

    @property
    def is_empty(self) -> bool:
        """Say whether nothing can pass."""
        return any(limit is not None and not limit for limit in (self.document_ids, self.collections, self.kinds, self.suffixes))

    def condition(self) -> str | None:
        """Return the filter, None if there is no limit."""
        columns = (("document_id", self.document_ids), ("collection", self.collections), ("kind", self.kinds))
        conditions = [one_of(column, values) for column, values in columns if values is not None]
        if self.path_prefix:
            conditions.append(f"starts_with(path, {quoted(self.path_prefix)})")
        if self.suffixes is not None:
            ends = [f"ends_with(lower(path), {quoted(suffix)})" for suffix in sorted(self.suffixes)]
            conditions.append(f"({' OR '.join(ends) or 'false'})")
        return " AND ".join(conditions) or None

    def tests(self) -> Iterator[tuple[str, Callable[[str], bool]]]:
        """Yield the same as columns, and what their values must pass."""
        for column, values in (("document_id", self.document_ids), ("collection", self.collections), ("kind", self.kinds)):
            if values is not None:
                yield column, frozenset(values).__contains__
        if prefix := self.path_prefix:
            yield "path", lambda path: path.startswith(prefix)
        if self.suffixes is not None:
            ends = tuple(self.suffixes)
            yield "path", lambda path: path.lower().endswith(ends)


EVERYTHING = Scope()
