"""Memories are embedded, found by their meaning, and forgotten by a real worker: LanceDB holds vectors of what is remembered, and no word of it."""

import re
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from federation.services import agents, consolidation, executions, graph, memories, messages
from federation.services.memories import Ranked, Recalled
from federation.store import outbox
from federation.vectors.table import Table

World = Any

# What agents of a team might keep, and how somebody asks later in other words.
KEPT = (
    ("The nightly backup of the customer database runs at two in the morning", "at what hour are client records saved"),
    ("Deploys to production need two approvals", "how many people must agree before we ship"),
    ("Maria prefers short pull requests and answers them within the hour", "which reviewer likes small changes"),
    ("The memory leak came from a cache that was never emptied", "why did the process use more and more RAM"),
    ("Kafka was rejected because nobody here can operate it", "reason for not using that message broker"),
    ("The VPN certificate expires in March and is renewed by hand", "when does the secure tunnel stop working"),
    ("Integration tests are slow because each starts its own PostgreSQL", "why does the suite take so long"),
    ("Customers in Japan see dates in the wrong time zone", "bug about clocks of Asian users"),
    ("The API returns 429 after a hundred requests a minute", "how often may one call the service before it refuses"),
    ("Passwords are hashed with argon2", "which algorithm protects the logins"),
    ("The office is closed on the first Friday of each month", "on which days is nobody at work"),
    ("The front end is written in Svelte, the back end in Go", "which programming languages do we use"),
)


@pytest.fixture
def remembering(world: World) -> World:
    """A world with three agents and the node of the vectors."""
    with world.transactions.begin("test:setup") as session:
        for name in ("ada", "bob", "eve"):
            agents.add(session, name, "developer")
    world.memory_node = world.node("frag", tags=["frag"], engines=["minilm"])
    return world


def remember(world: World, who: str, content: str, **more: Any) -> uuid.UUID:
    with world.transactions.begin(who) as session:
        return memories.remember(session, content, **more).memory_id


def settled(world: World) -> None:
    """Wait until what was remembered is embedded, and what was forgotten is not there."""

    def done() -> bool:
        world.publisher.sweep()
        kept = {str(row[0]) for row in world.rows("SELECT id FROM memories")}
        late = world.rows("SELECT 1 FROM memories WHERE vector_at IS NULL")
        return not late and stored(world) == kept

    world.until(done, "LanceDB holds what PostgreSQL does", within_s=120)


def stored(world: World) -> set[str]:
    return Table(world.folder / "vectors", "memories", has_words=False).values("id")


def ask(world: World, who: str, query: str, **more: Any) -> tuple[list[Recalled], list[dict[str, Any]]]:
    """Return what somebody recalls, and what the execution that ranked it answered."""
    with world.transactions.begin(who) as session:
        asked = memories.request_ranking(session, query, **more)
    answer = world.result(asked, within_s=120)
    with world.transactions.begin(who) as session:
        return memories.show(session, [Ranked(uuid.UUID(each["id"]), each["score"], each["matched_by"]) for each in answer]), answer


def recall(world: World, who: str, query: str, **more: Any) -> list[str]:
    return [each.content for each in ask(world, who, query, **more)[0]]


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_memories_are_found_in_other_words_by_their_readers_alone_and_survive_a_restart(remembering: World) -> None:
    world = remembering
    worker = world.worker(world.memory_node)
    for content, _ in KEPT:
        remember(world, "ada", content)
    remember(world, "bob", "Bob keeps bees on the roof", about=["bees"])
    remember(world, "bob", "Lunch is at noon", visibility="all")
    settled(world)
    places = [recall(world, "ada", query).index(content) if content in recall(world, "ada", query) else 99 for content, query in KEPT]
    assert sum(place == 0 for place in places) >= 9, places
    assert sum(place < 3 for place in places) >= 11, places
    # Neither by its own words, nor by its meaning, nor in the answer of the node, whose text nobody sees.
    for query in ("Bob keeps bees on the roof", "who has insects at home?"):
        [shown, answer] = ask(world, "bob", query)
        assert shown[0].content == "Bob keeps bees on the roof"
        assert "meaning" in shown[0].matched_by
        assert not any(word in str(answer) for word in ("bees", "Lunch"))
        for name in ("ada", "eve"):
            shown, answer = ask(world, name, query)
            assert "Bob keeps bees on the roof" not in [each.content for each in shown]
            assert str(remember(world, "bob", "Bob keeps bees on the roof")) not in {each["id"] for each in answer}
    assert recall(world, "eve", "when do we eat") == ["Lunch is at noon"]
    assert recall(world, "bob", "when do we eat", about=["bees"]) == ["Bob keeps bees on the roof"]
    before = recall(world, "ada", KEPT[1][1])
    worker.kill()
    world.worker(world.memory_node)
    assert recall(world, "ada", KEPT[1][1]) == before
    words = written(world.folder / "vectors") + b"".join(path.read_bytes() for path in world.folder.glob("*.log"))
    assert not [word for word in (b"bees", b"argon2", b"Svelte") if word in words]
    assert (world.folder / "vectors").stat().st_mode & 0o077 == 0


def test_what_is_forgotten_before_or_while_it_is_embedded_leaves_no_vector(remembering: World) -> None:
    world = remembering
    gone = [remember(world, "ada", f"number {number}") for number in range(4)]
    kept = remember(world, "ada", "the one that stays")
    for each in gone[:2]:
        with world.transactions.begin("ada") as session:
            memories.forget(session, each)
    world.worker(world.memory_node)
    for each in gone[2:]:
        with world.transactions.begin("ada") as session:
            memories.forget(session, each)
    settled(world)
    assert stored(world) == {str(kept)}
    assert recall(world, "ada", "number") == ["the one that stays"]


def test_beat_has_embedded_again_what_was_never_embedded(remembering: World) -> None:
    world = remembering
    kept = remember(world, "ada", "Deploys need two approvals")
    with world.transactions.begin("ada") as session:
        assert executions.cancel(session, uuid.UUID(str(world.rows("SELECT id FROM executions")[0][0])), "by a slip")
    with psycopg.connect(world.owner_url) as connection:
        connection.execute("UPDATE executions SET created_at = created_at - interval '2 minutes', updated_by = 'test:hand'")
        connection.execute("UPDATE memories SET created_at = created_at - interval '2 minutes', updated_by = 'test:hand'")
    world.worker(world.memory_node)
    world.celery("beat", name="beat")
    settled(world)
    assert stored(world) == {str(kept)}


def test_beat_reads_what_was_said_into_the_graph(world: World) -> None:
    with world.transactions.begin("test:setup") as session:
        agents.add(session, "ada", "developer")
    with world.transactions.begin("ada") as session:
        messages.send(session, "auth.py depends on db.py")
    world.celery("beat", name="beat")
    world.until(lambda: world.rows("SELECT 1 FROM graph_relations WHERE relation = 'depends on'"), "beat reads it")
    with world.transactions.begin("ada") as session:
        assert [each.to for each in graph.walk(session, ["auth.py"])][:1] == ["file:db.py"]


def test_what_is_said_twice_is_consolidated_by_a_worker(remembering: World) -> None:
    world = remembering
    world.worker(world.memory_node)
    # The example of the page, which is to hold.
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "memory.md").read_text("utf-8")
    [(gone, stays)] = re.findall(r"So «([^»]+)» goes when «([^»]+)» is there", page)
    for content in (
        "Deploys to production need two approvals",
        gone,
        "The cache is never emptied",
        "The deploys to production need two approvals.",
        stays,
    ):
        remember(world, "ada", content)
    settled(world)
    with world.transactions.begin("ada") as session:
        asked = outbox.record(session, consolidation.CONSOLIDATE, {}, requirements={"tags": ["frag"], "engine": "minilm"})
    assert world.result(asked, within_s=120) == {"looked_at": 5, "merged": 2, "summed_up": []}
    settled(world)
    with world.transactions.begin("ada") as session:
        left = [each.content for each in memories.latest(session).memories]
    assert left == [stays, "The deploys to production need two approvals.", "The cache is never emptied"]


def test_what_is_old_of_one_subject_is_summed_up_by_a_worker_and_found_by_its_meaning(remembering: World) -> None:
    world = remembering
    world.worker(world.memory_node)
    said = [f"Deploy {day} of the shop waited for the VPN. The weather was fine on day {day}." for day in range(8)]
    originals = [remember(world, "ada", each, about=["shop"]) for each in said]
    remember(world, "eve", "Eve keeps bees", about=["shop"])
    settled(world)
    with psycopg.connect(world.owner_url) as connection:
        connection.execute("UPDATE memories SET created_at = created_at - interval '40 days', updated_by = 'test:hand'")
    for who in ("ada", "eve"):
        with world.transactions.begin(who) as session:
            asked = outbox.record(session, consolidation.CONSOLIDATE, {}, requirements={"tags": ["frag"], "engine": "minilm"})
        done = world.result(asked, within_s=120)
        assert len(done["summed_up"]) == (1 if who == "ada" else 0)
    settled(world)
    with world.transactions.begin("ada") as session:
        [summary] = memories.latest(session).memories
    lines = summary.content.splitlines()
    assert list(summary.cites) == originals
    assert 1 <= len(lines[1:]) <= 5
    for line in lines[1:]:
        sentence, _, number = line.removeprefix("- ").rpartition(" [")
        assert sentence in said[int(number.rstrip("]")) - 1]
    shown, _ = ask(world, "ada", "what held up the releases of the store?", limit=20)
    assert summary.memory_id in [each.memory_id for each in shown]
    assert not [each for each in ask(world, "eve", "what held up the releases of the store?")[0] if "VPN" in each.content]
