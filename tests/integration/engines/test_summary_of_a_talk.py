"""An extractive summary over real sentence vectors."""

from federation.engines.contracts import EmbeddingEngine
from federation.engines.extractive import summarise

TALK = [
    "The memory of worker taichi grows by 200 MB an hour. Who can profile it?",
    "ok",
    "I can. I will run tracemalloc on the indexing task tonight.",
    "thanks!",
    "By the way, lunch is at noon.",
    "The profile shows that tracemalloc finds 180 MB in the cache of embeddings.",
    "The cache of embeddings has no limit, so the memory of the worker grows with each task.",
    "I propose a limit of 10,000 entries for the cache.",
    "fine",
    "Agreed: the cache gets a limit of 10,000 entries, and taichi is restarted at night.",
]


def test_summary_keeps_the_first_message_the_order_and_what_the_talk_is_about(minilm: EmbeddingEngine) -> None:
    extracts = summarise(TALK, minilm.embed, max_sentences=5)
    assert len(extracts) == 5
    assert [extract.sentence for extract in extracts[:2]] == ["The memory of worker taichi grows by 200 MB an hour.", "Who can profile it?"]
    assert [extract.message_index for extract in extracts] == sorted(extract.message_index for extract in extracts)
    assert all(extract.sentence in TALK[extract.message_index] for extract in extracts)
    text = " ".join(extract.sentence for extract in extracts)
    assert "cache" in text
    assert "lunch" not in text
    assert "ok" not in [extract.sentence for extract in extracts]
