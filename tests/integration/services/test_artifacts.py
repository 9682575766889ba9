"""Artifacts: versions of names in a conversation, seen by its members alone, recorded once their content is there."""

import hashlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, text

from federation.errors import Conflict, InvalidInput, NotFound, OverQuota
from federation.services import artifacts, limits, messages, tasks
from federation.services.artifacts import ArtifactView, Offered
from federation.settings import Settings
from federation.store.contents import Stored
from federation.store.models.artifacts import Artifact
from federation.store.models.events import Event
from federation.transaction import Transactions

ROOM = "project-123"


@pytest.fixture
def room(transactions: Transactions) -> Transactions:
    """A conversation of ada and bob."""
    with transactions.begin("ada") as session:
        messages.send(session, "Here", conversation_id=ROOM, to="bob")
    return transactions


def put(opened: Transactions, who: str, name: str, content: str = "x", **more: Any) -> ArtifactView:
    offered = Offered(**{"conversation_id": ROOM, "name": name, **more})
    with opened.begin(who) as session:
        artifacts.admit(session, offered, size=len(content))
    with opened.begin(who) as session:
        return artifacts.record(session, offered, Stored(hashlib.sha256(content.encode()).hexdigest(), len(content)))


def listed(opened: Transactions, who: str, **more: Any) -> tuple[list[tuple[str, int]], bool]:
    with opened.begin(who) as session:
        found, rest = artifacts.page(session, ROOM, **more)
    return [(one.name, one.version) for one in found], rest


def test_a_name_has_versions_and_the_same_content_again_is_none(room: Transactions) -> None:
    first = put(room, "ada", "plan.md", "one", kind="design")
    assert (first.version, first.media_type, first.created_by) == (1, "text/markdown", "ada")
    assert put(room, "bob", "plan.md", "one", kind="design") == first
    second = put(room, "bob", "plan.md", "two", kind="design")
    assert (second.version, second.versions, second.created_by) == (2, 2, "bob")
    # What was there before the last may come back, and what says something else of the same content is another version.
    assert put(room, "ada", "plan.md", "one", kind="design").version == 3
    assert put(room, "ada", "plan.md", "one", kind="code").version == 4
    with room.begin("bob") as session:
        assert artifacts.find(session, ROOM, "plan.md").kind == "code"
        old = artifacts.find(session, ROOM, "plan.md", 2)
        assert (old.sha256, old.version, old.versions) == (second.sha256, 2, 4)
        with pytest.raises(InvalidInput, match=r"version: got 5, wants 1 to 4 of plan\.md"):
            artifacts.find(session, ROOM, "plan.md", 5)
        with pytest.raises(NotFound, match=r"no artifact 'plam.md'; nearest: plan.md"):
            artifacts.find(session, ROOM, "plam.md")


def test_each_version_has_its_event_and_nothing_else_has(room: Transactions) -> None:
    with room.begin("ada") as session:
        task = tasks.delegate(session, "Draw it", conversation_id=ROOM, slug="draw").id
    for content in ("one", "one", "two"):
        put(room, "bob", "plan.md", content, task="draw")
    with room.begin("test:hand") as session:
        told = session.scalars(select(Event).where(Event.type == "artifact.stored").order_by(Event.sequence)).all()
        rows = session.scalars(select(Artifact).order_by(Artifact.version)).all()
    assert [(one.actor, one.stream, one.position, one.conversation_id) for one in told] == [
        ("bob", f"artifacts:{ROOM}", number, ROOM) for number in (1, 2)
    ]
    assert [one.payload["artifact_id"] for one in told] == [str(row.id) for row in rows]
    assert {one.payload["task_id"] for one in told} == {str(task)}


def test_of_many_who_put_under_one_name_at_once_each_gets_a_version(room: Transactions) -> None:
    gate = threading.Barrier(8)

    def one(number: int) -> int:
        gate.wait()
        return put(room, ("ada", "bob")[number % 2], "plan.md", f"content {number}").version

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(one, range(8))) == list(range(1, 9))


def test_who_writes_from_an_old_version_is_told_both_and_nothing_is_lost(room: Transactions) -> None:
    put(room, "ada", "plan.md", "one", expected_version=0)
    put(room, "bob", "plan.md", "two", expected_version=1)
    says = r"plan\.md is at version 2 by now, put by bob, and not at 1 as you expect: nothing was put.*put that with the expected version 2"
    for content in ("a longer one", "uno"):
        # One of another length is refused before it is written anywhere.
        with pytest.raises(Conflict, match=says):
            put(room, "ada", "plan.md", content, expected_version=1)
    assert put(room, "bob", "plan.md", "two", expected_version=1).version == 2, "the same call again, because its answer was lost"
    with pytest.raises(Conflict, match="and not at 0 as you expect"):
        put(room, "ada", "plan.md", "a new plan", expected_version=0)
    for never in (3, -1):
        with pytest.raises(InvalidInput, match=f"expected_version: got {never}, wants at most 2, the latest version of plan.md"):
            put(room, "ada", "plan.md", "three", expected_version=never)
    with pytest.raises(InvalidInput, match=r"expected_version: got 1, wants at most 0, the latest version of other.md \(0: there is none\)"):
        put(room, "ada", "other.md", expected_version=1)
    assert put(room, "ada", "plan.md", "one and two", expected_version=2).version == 3
    with room.begin("ada") as session:
        sizes = [artifacts.find(session, ROOM, "plan.md", version).size for version in (1, 2, 3)]
        events = session.scalars(select(Event.payload["artifact_version"]).where(Event.type == "artifact.stored").order_by(Event.sequence)).all()
    assert (sizes, events) == ([3, 3, 11], [1, 2, 3])


def test_of_many_who_put_from_one_version_at_once_one_does(room: Transactions) -> None:
    put(room, "ada", "plan.md", "the first")
    gate = threading.Barrier(8)

    def one(number: int) -> int | None:
        gate.wait()
        try:
            return put(room, ("ada", "bob")[number % 2], "plan.md", f"content {number}", expected_version=1).version
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(one, range(8)), key=str) == [2, *[None] * 7]
    assert listed(room, "ada") == ([("plan.md", 2)], False)


def test_a_stranger_is_answered_as_if_the_conversation_had_never_been(room: Transactions) -> None:
    put(room, "ada", "plan.md")

    def refusals(conversation: str) -> list[str]:
        told = []
        for work in (
            lambda session: artifacts.admit(session, Offered(conversation_id=conversation, name="x"), size=1),
            lambda session: artifacts.record(session, Offered(conversation_id=conversation, name="x"), Stored("0" * 64, 1)),
            lambda session: artifacts.find(session, conversation, "plan.md"),
            lambda session: artifacts.page(session, conversation),
        ):
            with pytest.raises(NotFound) as refused, room.begin("dan") as session:
                work(session)
            told.append(str(refused.value).replace(conversation, "…"))
        return told

    assert refusals(ROOM) == refusals("project-124")
    # PostgreSQL says the same, whatever is asked for.
    for name, count in (("dan", 0), ("eve", 0), ("bob", 1)):
        with room.begin(name) as session:
            assert session.scalar(text("SELECT count(*) FROM artifacts")) == count


def test_a_task_of_another_conversation_is_none_here(room: Transactions) -> None:
    with room.begin("bob") as session:
        tasks.delegate(session, "Elsewhere", slug="elsewhere")
    with pytest.raises(NotFound, match="no task 'elsewhere'"):
        put(room, "bob", "plan.md", task="elsewhere")


NAMES = (
    "plan.md",
    "src/auth.py",
    "Prüfbericht (2) – Entwurf.pdf",
    "設計.md",
    "👩‍💻.txt",
    ".gitignore",
    "a'b\"; DROP TABLE artifacts; --",
    "%s{x}$(id)`",
    "x" * 200,
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_be_what_can_be_seen(room: Transactions, name: str) -> None:
    assert put(room, "ada", name).name == name
    assert listed(room, "bob") == ([(name, 1)], False)


def test_names_that_look_alike_are_one(room: Transactions) -> None:
    assert put(room, "ada", "e\u0301.md", "one").version == 1
    assert put(room, "ada", "\xe9.md", "two").version == 2


@pytest.mark.parametrize(
    "name",
    ["", " ", "a ", "a\nb", "a\x1b[31m", "a\u202eb", "a\xa0b", "\ud800", "a\0b", "/etc/passwd", "a/", "a//b", ".", "..", "../a", "a/../b", "x" * 201],
)
def test_a_name_that_cannot_be_seen_or_leads_elsewhere_is_refused(room: Transactions, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"name: got .* wants 1 to 200 visible characters"):
        put(room, "ada", name)


def test_other_fields_are_refused_by_name(room: Transactions) -> None:
    for field, value in (("kind", "poem"), ("media_type", "text"), ("media_type", "text/x; y"), ("media_type", "text/x\n")):
        with pytest.raises(InvalidInput, match=f"^{field}: got"):
            put(room, "ada", "plan.md", **{field: value})


def test_a_list_comes_page_by_page_in_the_order_of_names_and_by_kind(room: Transactions) -> None:
    for number, kind in enumerate(("other", "code", "design", "tests", "review")):
        put(room, "ada", f"{number}.md", "old")
        put(room, "ada", f"{number}.md", kind=kind)
    assert listed(room, "bob", limit=2) == ([("0.md", 2), ("1.md", 2)], True)
    assert listed(room, "bob", limit=2, after="1.md") == ([("2.md", 2), ("3.md", 2)], True)
    assert listed(room, "bob", limit=2, after="3.md") == ([("4.md", 2)], False)
    with room.begin("bob") as session:
        bundle = artifacts.bundle(artifacts.page(session, ROOM)[0])
    told = {kind: [one.name for one in listed] for kind, listed in bundle.items()}
    assert list(told.items()) == [("design", ["2.md"]), ("code", ["1.md"]), ("review", ["4.md"]), ("tests", ["3.md"]), ("other", ["0.md"])]


def test_the_commons_may_be_put_into_before_anybody_spoke(transactions: Transactions) -> None:
    assert put(transactions, "eve", "hello.txt", conversation_id="commons").version == 1
    with transactions.begin("dan") as session:
        assert artifacts.find(session, "commons", "hello.txt").created_by == "eve"


def test_a_large_one_and_many_small_ones_are_refused_with_the_setting(room: Transactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "settings", lambda: Settings(artifact_bytes=10, artifact_bytes_per_day=3 * limits.LEAST_BYTES))
    with pytest.raises(OverQuota, match=r"may have 10 bytes, and this one has 11.*FEDERATION_ARTIFACT_BYTES\."):
        put(room, "ada", "large", "x" * 11)
    for number in range(3):
        put(room, "ada", f"{number}", "x" * 10)
    with pytest.raises(OverQuota, match=r"ada may put 12288 bytes .* a day, and has.*in 480 minutes.*FEDERATION_ARTIFACT_BYTES_PER_DAY"):
        put(room, "ada", "one more")
    # Who was refused has left nothing, and others have allowances of their own.
    assert listed(room, "bob")[0] == [("0", 1), ("1", 1), ("2", 1)]
    put(room, "bob", "mine")
    monkeypatch.setattr(limits, "settings", lambda: Settings(artifact_bytes=0, artifact_bytes_per_day=1))
    with pytest.raises(OverQuota, match="and this one counts 4096"):
        put(room, "bob", "another")


def test_no_version_is_changed_or_taken_away_by_anybody(room: Transactions) -> None:
    put(room, "ada", "plan.md")
    for engine in (room.engine, room.service):
        for statement in ("UPDATE artifacts SET sha256 = repeat('0', 64)", "DELETE FROM artifacts"):
            with pytest.raises(Exception, match="permission denied"), engine.begin() as connection:
                connection.execute(text(statement))


def test_a_row_in_the_name_of_another_is_refused_by_the_database(room: Transactions) -> None:
    row = {"id": uuid.uuid4(), "conversation_id": ROOM, "name": "x", "version": 1, "kind": "other", "media_type": "a/b", "size": 1}
    for who, made_by in (("ada", "bob"), ("dan", "dan")):
        with pytest.raises(Exception, match="row-level security"), room.begin(who) as session:
            session.add(Artifact(**row, sha256="0" * 64, created_by=made_by))
            session.flush()
