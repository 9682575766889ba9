"""Names of resources: one form for each, and two overlap exactly when something could be meant by both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.charter import RESOURCE_PATTERN
from federation.errors import InvalidInput
from federation.services.resources import Resource, of_task, parsed

PARTS = st.sampled_from(["a", "b", "ab", "a-b", "a b", "é", "!"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
NAMES = st.builds(lambda path, tree: f"file:{path}{'/**' if tree else ''}", PATHS, st.booleans()) | st.just("file:**")
# All paths that can be made of the parts, as far as the names above reach and one further.
HERE = [()]
for _ in range(5):
    HERE += [(*before, part) for before in HERE if len(before) == len(HERE[-1]) for part in ("a", "b", "ab")]


def meant(resource: Resource) -> set[str]:
    """What a name means among few paths: itself, or all that begin with the parts of its folder."""
    kind, _, path = resource.name.partition(":")
    if not resource.is_tree:
        return {resource.name}
    folder = [part for part in path.removesuffix("**").split("/") if part]
    return {f"{kind}:{'/'.join(parts)}" for parts in HERE if parts and list(parts[: len(folder)]) == folder}


SMALL = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=3).map("/".join)
SMALL_NAMES = st.builds(lambda path, tree: Resource(f"file:{path}{'/**' if tree else ''}"), SMALL, st.booleans()) | st.just(Resource("file:**"))


@given(SMALL_NAMES, SMALL_NAMES)
def test_two_names_overlap_exactly_when_some_path_is_meant_by_both(one: Resource, other: Resource) -> None:
    assert one.overlaps(other) == other.overlaps(one) == bool(meant(one) & meant(other))
    assert one.covers(other) == (meant(other) <= meant(one))


@given(NAMES, NAMES)
def test_what_an_index_is_asked_for_is_all_that_overlaps_and_all_that_covers(one: str, other: str) -> None:
    first, second = parsed(one), parsed(other)
    found = second.name in first.overlapped_by or (first.below is not None and second.name.startswith(first.below))
    assert found == first.overlaps(second)
    assert (second.name in first.covered_by) == second.covers(first)


@given(NAMES, NAMES)
def test_who_could_be_in_the_way_meets_at_a_lock(one: str, other: str) -> None:
    first, second = parsed(one), parsed(other)
    meet = first.node == second.node or first.node in second.above or second.node in first.above
    # Both in order from the root, so that nobody waits in a circle.
    assert first.above == sorted(first.above, key=len)
    if first.overlaps(second):
        assert meet


def test_a_name_has_one_form() -> None:
    assert parsed("file:/src/main.py") == parsed("file:src/main.py") == Resource("file:src/main.py")
    assert parsed("file:cafe\u0301.md").name == "file:caf\u00e9.md"
    assert parsed("file:**").above == []
    assert parsed("file:src/a/**").above == ["file:", "file:src"]
    assert of_task("7").covered_by == ["task:7"]
    assert of_task("7").above == []


WRONG = {
    "src/main.py": "a kind and a path",
    "File:src": "a kind and a path",
    "file:": "the path from the root",
    "file:src/": r"a folder ends with /\*\*",
    "file:src//main.py": "without empty parts",
    "file:./src": r"without empty parts, \. and \.\.",
    "file:src/../main.py": r"\. and \.\.",
    "file:src/*": r"\* stands only in /\*\* at the end",
    "file:src/*.py": r"\* stands only",
    "file:src**": r"\* stands only",
    "file:**/main.py": r"\* stands only",
    "file:a\nb": "without control characters",
    "task:4": "federation_claim_task",
    "file:" + "a/" * 64 + "a": "at most 64 parts deep",
    "file:" + "a" * 1000: "at most 1000 characters",
}


@pytest.mark.parametrize("name", WRONG, ids=[repr(name[:20]) for name in WRONG])
def test_any_other_name_is_refused_with_what_is_wrong_with_it(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"^resource: got .*{WRONG[name]}"):
        parsed(name)


@given(NAMES)
def test_charter_takes_every_name(name: str) -> None:
    import re

    assert re.match(RESOURCE_PATTERN, parsed(name).name)
