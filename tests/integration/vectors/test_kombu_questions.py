"""Natural questions about kombu's code, over chunker, MiniLM and hybrid search together."""

import tomllib
from pathlib import Path

import kombu
import pytest

from federation.engines import catalogue
from federation.vectors.chunking import Chunk, chunk_file
from federation.vectors.index import VectorIndex
from federation.vectors.scan import read_file, scan
from federation.vectors.table import Row

QUESTIONS = Path(__file__).parents[3] / "federation" / "cli" / "demo" / "questions.toml"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    root = Path(kombu.__file__).parent
    chunks: list[Chunk] = []
    for file in scan(root).files:
        found = chunk_file(f"kombu/{file.path}", read_file(root, file.path))
        chunks += found if isinstance(found, list) else []
    vectors = catalogue.embedding().embed([chunk.embeddable for chunk in chunks], truncate_at=128)
    index = VectorIndex(tmp_path_factory.mktemp("vectors"))
    index.upsert(
        [
            Row(chunk.content_hash, chunk.path, "kombu", chunk.path, chunk.kind, chunk.searchable, vector)
            for chunk, vector in zip(chunks, vectors, strict=True)
        ]
    )
    index.optimize()
    return index


@pytest.mark.parametrize("part", ["fixed", "held_out"])
def test_right_file_is_among_the_first_three_for_eight_of_ten_questions(indexed: VectorIndex, part: str) -> None:
    ranks: dict[str, int] = {}
    for asked in tomllib.loads(QUESTIONS.read_text())[part]:
        hits = indexed.search(asked["question"], catalogue.embedding().embed([asked["question"]])[0], limit=100)
        paths = [hit.path for hit in hits]
        ranks[asked["question"]] = paths.index(asked["file"]) + 1 if asked["file"] in paths else 999
    assert len(ranks) == 10
    assert sum(rank <= 3 for rank in ranks.values()) >= 8, ranks
