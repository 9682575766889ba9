"""Things that texts name, and how their sentences relate them: the rules by examples, and that no text breaks them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.services.entities import LONGEST, MOST, Known, candidates, mentions, relations

TASK = "0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a11"
KNOWN = Known({"bob": "agent:bob", "aorus": "node:aorus", "memory-profile": "task:memory-profile", TASK: "task:memory-profile"})


def named(text: str) -> list[str]:
    return [each.entity for each in mentions(text, KNOWN)]


@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("The leak is in src/auth/session.py and in main.go.", ["file:src/auth/session.py", "file:main.go"]),
        ("Look at file:docs/index.md, then at /etc/app/conf.d/limits", ["file:docs/index.md", "file:/etc/app/conf.d/limits"]),
        ("I claim file:src/** and deploy:production", ["file:src/**", "deploy:production"]),
        ("10.0.0.7 answers; 10.0.0.256 and 1.2.3.4.5 are none", ["host:10.0.0.7", "version:1.2.3.4.5"]),
        ("It listens on fe80::1:2:3 at 12:30:45", ["host:fe80::1:2:3"]),
        ("DB1.example.com and https://user@api.corp:8443/v2/x?y=1 are down", ["host:db1.example.com", "host:api.corp"]),
        ("celery 5.7.0 with kombu==5.7.1-rc1, v2.0 and 3.5 of them, took 3.5 s", ["version:celery 5.7.0", "version:kombu 5.7.1-rc1", "version:2.0"]),
        (
            "It raised sqlalchemy.exc.TimeoutError, see CVE-2026-12345 and #812",
            ["error:sqlalchemy.exc.TimeoutError", "cve:CVE-2026-12345", "issue:#812"],
        ),
        ("@bob, is memory-profile yours? bobby and BOB are not aorus.", ["agent:bob", "task:memory-profile", "node:aorus"]),
        (f"{TASK} is done, 11111111-4f5a-4c1e-9a57-2f6f3c1f0a11 is nothing", ["task:memory-profile"]),
        ("Nothing is named here: either/or, 50 %, 12.5 seconds, e.g. and/or a.b", []),
        ("", []),
    ],
)
def test_a_text_names_things(text: str, entities: list[str]) -> None:
    assert named(text) == entities


@pytest.mark.parametrize(
    ("text", "related"),
    [
        ("auth.py depends on db.py", ("file:auth.py", "depends on", "file:db.py")),
        ("The TimeoutError was caused by 10.0.0.7", ("host:10.0.0.7", "causes", "error:TimeoutError")),
        ("10.0.0.7 breaks auth.py", ("host:10.0.0.7", "causes", "file:auth.py")),
        ("api.corp runs on aorus", ("host:api.corp", "runs on", "node:aorus")),
        ("#12 is blocked by #13", ("issue:#13", "blocks", "issue:#12")),
        ("CVE-2026-1234 is fixed in openssl 3.0.9", ("version:openssl 3.0.9", "fixes", "cve:CVE-2026-1234")),
        ("a.py does not depend on b.py", ("file:a.py", "mentioned with", "file:b.py")),
        ("b.py, a.py", ("file:a.py", "mentioned with", "file:b.py")),
        ("auth.py is owned by bob", ("agent:bob", "owns", "file:auth.py")),
    ],
)
def test_a_sentence_relates_neighbours(text: str, related: tuple[str, str, str]) -> None:
    assert relations(text, KNOWN)[1] == [related]


def test_sentences_and_lines_are_apart() -> None:
    assert relations("a.py is slow. B.py is not\nc.py is new", KNOWN) == (["file:a.py", "file:B.py", "file:c.py"], [])


def test_a_list_of_everything_relates_few() -> None:
    things, related = relations(" ".join(f"f{number}.py" for number in range(1000)), KNOWN)
    assert (len(things), len(related)) == (MOST, MOST - 1)


@given(st.text(alphabet=st.sampled_from("ab1.:/-@#=_ \n«é")) | st.text())
def test_any_text_is_read_the_same_twice_and_in_order(text: str) -> None:
    found = mentions(text, KNOWN)
    assert found == mentions(text, KNOWN)
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert all(0 < len(each.entity) <= LONGEST and ":" in each.entity for each in found)
    things, related = relations(text, KNOWN)
    assert {end for one, _, other in related for end in (one, other)} <= set(things)
    assert candidates(text) is not None
