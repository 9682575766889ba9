"""Which files of a change are in somebody's way, and what is said about them."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from federation.errors import InvalidInput
from federation.services.claimed_paths import Standing, in_words, obstacles

ENDS = datetime(2026, 11, 28, 21, 40, tzinfo=UTC)


def claim(resource: str, *, token: int | None = None, description: str = "") -> Standing:
    """Return bob's claim, or with a token ada's."""
    return Standing(resource, "bob" if token is None else "ada", ENDS, description, token)


def refused(
    paths: list[str], *claims: Standing, tokens: Mapping[str, int] | None = None, required: tuple[str, ...] = (), prefix: str = "file:"
) -> list[str]:
    return [in_words(each, me="ada") for each in obstacles(paths, claims, required, prefix=prefix, tokens=tokens or {})]


def test_what_another_has_claimed_is_refused_with_who_until_when_and_for_what() -> None:
    assert refused(["src/main.py", "README.md"], claim("file:src/**", description="refactoring")) == [
        "src/main.py: claimed by bob until 2026-11-28 21:40:00 UTC, as file:src/** (refactoring)"
    ]
    assert refused(["src/main.py"], claim("file:src/main.py")) == ["src/main.py: claimed by bob until 2026-11-28 21:40:00 UTC"]


def test_what_one_has_claimed_oneself_passes_and_so_does_what_nobody_has() -> None:
    assert refused(["src/main.py", "README.md"], claim("file:src/**", token=7), tokens={"file:src/**": 7}) == []


def test_a_claim_of_ones_own_counts_with_its_token_only() -> None:
    held = claim("file:src/**", token=9)
    assert refused(["src/main.py", "README.md"], held) == [
        "src/main.py: ada holds file:src/** with token 9, and this repository knows no token of it"
    ]
    told = refused(["src/main.py"], held, tokens={"file:src/**": 7})
    assert told == ["src/main.py: ada holds file:src/** with token 9, and this repository knows token 7 of an earlier one"]
    # One that covers the file is enough, whatever became of another.
    assert refused(["src/main.py"], held, tokens={"file:src/**": 9, "file:src/main.py": 3}) == []


def test_what_one_had_claimed_is_refused_when_the_claim_is_over_though_nobody_has_it() -> None:
    told = refused(["src/main.py", "README.md"], claim("file:lib/**", token=8), tokens={"file:src/**": 7})
    assert told == ["src/main.py: ada's claim on file:src/** with token 7 is over, so others may have changed it since"]
    assert refused(["src/main.py"], claim("file:src/main.py"), tokens={"file:src/**": 7})[0].startswith("src/main.py: claimed by bob until")


def test_what_the_charter_wants_claimed_takes_a_claim_of_ones_own() -> None:
    old = {"file:src/old.py": 4}
    told = refused(["src/new.py", "src/old.py", "README.md"], claim("file:src/old.py", token=4), tokens=old, required=("file:src/**",))
    assert told == ["src/new.py: the charter wants it claimed before it is changed, and ada has no claim: claim file:src/new.py"]


def test_names_of_another_repository_are_in_nobodys_way() -> None:
    assert refused(["src/main.py"], claim("file:shop/src/**"), prefix="file:") == []
    assert refused(["src/main.py"], claim("file:shop/src/**"), prefix="file:shop/") != []


def test_a_file_that_nobody_can_name_is_claimed_with_its_folder() -> None:
    assert refused(["src/a*b", "src/\udcff"], claim("file:src/**")) == [
        "src/a*b: claimed by bob until 2026-11-28 21:40:00 UTC, as file:src/**",
        "src/\\udcff: claimed by bob until 2026-11-28 21:40:00 UTC, as file:src/**",
    ]


def test_a_folder_that_became_a_file_is_in_the_way_of_what_was_in_it() -> None:
    assert refused(["src"], claim("file:src/**")) != []


def test_a_name_of_the_charter_that_is_none_is_told_as_its() -> None:
    with pytest.raises(InvalidInput, match=r"^charter, claims\.required: got 'file:\.\./x'"):
        obstacles(["a"], [], ["file:../x"], prefix="file:", tokens={})
