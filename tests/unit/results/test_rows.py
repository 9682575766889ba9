"""Rows and meta dictionaries are two forms of one thing."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kombu.serialization import dumps, loads

from federation.results.rows import Row, meta, parameters

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def encode(value: Any) -> str:
    return str(dumps(value, serializer="json")[2])


def decode(text: str | None) -> Any:
    return None if text is None else loads(text, content_type="application/json", content_encoding="utf-8", accept={"application/json"})


def through(given_meta: dict[str, Any]) -> dict[str, Any]:
    row = parameters("id", given_meta, encode, 3)
    assert row["group_index"] == 3
    return meta(Row(**{name: row.get(name) for name in Row._fields}), decode)


@given(result=values, args=st.lists(values, max_size=3), group=st.none() | st.text(min_size=1))
def test_a_meta_dictionary_survives_its_row(result: Any, args: list[Any], group: str | None) -> None:
    stored = {"status": "SUCCESS", "result": result, "traceback": None, "children": [[["c", None], None]], "args": args, "retries": 0}
    stored |= {"group_id": group} if group else {}
    back = through(stored)
    assert {name: back[name] for name in stored} == stored


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_traceback_can_be_stored(traceback: str) -> None:
    row = parameters("id", {"status": "FAILURE", "result": None, "traceback": traceback, "children": None}, encode, None)
    assert "\0" not in row["traceback"]
    row["traceback"].encode()
